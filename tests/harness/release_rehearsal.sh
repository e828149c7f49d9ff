#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# release_rehearsal.sh VERSION DIRECTORY: take every step of a release but the publication, in a clone of this checkout in
# DIRECTORY. The checkout itself, with its changelog fragments, is not changed.
set -eu
version=$1
mkdir -p "$2"
directory=$(cd "$2" && pwd)
harness=$PWD/tests/harness
clone=$directory/ansible_collections/vmfork/vsphere
git="git -c safe.directory=* -c user.name=maintainers -c user.email=maintainers@example.com"

rm -rf "$directory/ansible_collections" "$directory/collections" "$directory"/*.tar.gz
$git clone --quiet "$PWD" "$clone"
cd "$clone"

echo "--- version $version and changelog"
sed -i "s/^version: .*/version: $version/" galaxy.yml
# Versions before the first release were never published. The changelog lists plugins that were added in the release.
grep -rlE '^ *version_added: 0\.' plugins roles | xargs -r sed -i -E "s/^( *version_added: )0\..*/\1$version/"
antsibull-changelog release
antsibull-changelog lint
antsibull-changelog lint-changelog-yaml changelogs/changelog.yaml
grep -F "id=\"v$(echo "$version" | tr . -)\"" CHANGELOG.md
fragments=$(find changelogs/fragments -name '*.yml' | wc -l)
[ "$fragments" -eq 0 ] || { echo "$fragments changelog fragments are left"; exit 1; }
PYTHONPATH=tests python tests/lint/headers.py
YAMLLINT_CONFIG_FILE=.yamllint yamllint --strict .

echo "--- commit and tag"
$git add --all
$git commit --quiet --message "Release $version"
$git tag --annotate --message "Release $version" "$version"
$git describe --exact-match

echo "--- build and install"
ansible-galaxy collection build --output-path "$directory"
ansible-galaxy collection install --force --no-deps --offline -p "$directory/collections" "$directory"/*.tar.gz
installed=$directory/collections/ansible_collections/vmfork/vsphere

echo "--- ansible-lint on the installed collection"
(cd "$installed" && ANSIBLE_COLLECTIONS_PATH="$directory/collections" ansible-lint --nocolor --offline --profile production)

echo "--- galaxy-importer"
[ -x "$directory/importer/bin/python" ] || python -m venv "$directory/importer"
HOME="$VMFORK_USER_HOME" "$directory/importer/bin/pip" install --quiet --disable-pip-version-check galaxy-importer==0.4.31
printf '[galaxy-importer]\nRUN_ANSIBLE_TEST = False\nRUN_ANSIBLE_LINT = False\nCHECK_REQUIRED_TAGS = True\n' \
    >"$directory/importer.cfg"
(cd "$directory" && PATH="$directory/importer/bin:$PATH" GALAXY_IMPORTER_CONFIG="$directory/importer.cfg" \
    "$directory/importer/bin/python" -m galaxy_importer.main "$directory"/*.tar.gz)

echo "--- the release file alone"
PYTHONPATH="$harness/.." python "$harness/tarball.py" "$directory"/*.tar.gz "$directory/machine"
echo "$version could be released"
