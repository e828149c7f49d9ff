# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# EXPERIMENTAL: this script has never been run in Windows.
#
# Gives a child an identity of its own. Needs Windows PowerShell 5.1, an administrator, and VMware Tools.
#   windows_identity.ps1 prepare [ITEMS [NETWORK]]   in the parent, just before the fork point
#   windows_identity.ps1 renew [ITEMS [NETWORK]]     in a child, right after it
#   windows_identity.ps1 undo                        in the parent, if it does not reach the fork point after prepare
# ITEMS is "auto" (everything the guest has) or names from the list below, separated by commas. NETWORK is auto or none.
# In a child, the config params vmfork.identity and vmfork.network take precedence; guide_identity.rst lists the others,
# and what is not renewed. An item is "ok" only if its effect was read back, "absent" if the guest does not have it or
# nothing was requested, and "failed" otherwise. The result is published as guestinfo.vmfork.identity. Exit codes: 0, 90
# if an item failed or the result could not be published, 2 for wrong arguments.
# Environment: VMFORK_TOOLS (program that reads and writes guestinfo), VMFORK_WAIT (seconds to wait for the network).
param([string]$Step, [string]$Items = 'auto', [string]$Network = 'auto')
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$AllItems = 'clock', 'random', 'machine_id', 'leases', 'adapters', 'hostname', 'network', 'ssh_host_keys', 'boot_id',
  'agents', 'services', 'announce'
# What prepare changes outlasts a restart, so its state and the task that undoes it at the next start do so, too.
$StateKey = 'SOFTWARE\vmfork.vsphere'
$UndoScript = "$env:SystemRoot\vmfork_identity.ps1"
$Schtasks = "$env:SystemRoot\System32\schtasks.exe"

# --- VMware Tools and other programs ---------------------------------------------------------------------------------
# Quote an argument as programs parse their command line; PowerShell 5.1 itself would lose quotes in it.
function Format-Argument([string]$text) {
  '"' + (($text -replace '(\\*)"', '$1$1\"') -replace '(\\+)$', '$1$1') + '"'
}
# The result has the exit code, the output, and the error output.
function Invoke-Program([string]$path, [string]$arguments) {
  $start = New-Object Diagnostics.ProcessStartInfo $path, $arguments
  $start.UseShellExecute = $false
  $start.CreateNoWindow = $start.RedirectStandardOutput = $start.RedirectStandardError = $true
  $process = [Diagnostics.Process]::Start($start)
  $said = $process.StandardError.ReadToEndAsync()
  $text = $process.StandardOutput.ReadToEnd()
  $process.WaitForExit()
  @{ code = $process.ExitCode; text = $text; said = $said.Result }
}
function Send-Rpc([string]$command) {
  $tools = if ($env:VMFORK_TOOLS) { $env:VMFORK_TOOLS } else { "$env:ProgramFiles\VMware\VMware Tools\vmtoolsd.exe" }
  $arguments = Format-Argument $command
  if ((Split-Path -Leaf $tools) -notlike '*rpctool*') { $arguments = '--cmd ' + $arguments }
  Invoke-Program $tools $arguments
}
# Return a config param of this child, as one line.
function Get-Param([string]$name) {
  $answer = Send-Rpc ('info-get guestinfo.fork.' + $name)
  if ($answer.code -ne 0) { return '' }
  ($answer.text -replace '[^\x20-\x7e]+', ' ' -replace ' +', ' ').Trim()
}
function Get-ParamList($name, $between = '[, ]+') { (Get-Param $name) -split $between | Where-Object { $_.Trim() } }

# --- Results ---------------------------------------------------------------------------------------------------------
function Set-Status([string]$new, [string]$reason) {
  if ($status -ne 'failed') { $script:status = $new }
  $script:why += $(if ($why) { '; ' }) + $reason
}
function Set-Failed([string]$reason) { Set-Status 'failed' $reason }
function Set-Absent([string]$reason) { Set-Status 'absent' $reason }
# Run a step; what it throws is the reason of a failure. Report what is not ok.
function Invoke-Step([string]$name, [scriptblock]$action) {
  $script:status, $script:why = 'ok', ''
  try { [void](& $action) } catch { Set-Failed ([string]$_) }
  if ($status -eq 'failed') { $script:code = 90 }
  if ($status -eq 'ok') { return }
  $line = $why -replace '[^\x20-\x7e]+', ' '
  $script:reasons += '{0}: {1}' -f $name, $line.Substring(0, [Math]::Min(300, $line.Length))
  Write-Host ('{0}: {1}: {2}' -f $name, $status, $line)
}
# Renew an item, and return its entry of the report.
function Update-Item([string]$name) {
  Invoke-Step $name {
    if ($AllItems -cnotcontains $name) { throw 'unknown to this version of the script' }
    $is_off = $Network -eq 'none' -and $name -in 'leases', 'adapters', 'network'
    if ($is_off -and @(Get-Saved)) { throw 'the network was taken down in the parent; set it to none there, too' }
    if ($is_off) { Set-Absent 'switched off' } else { & "Update-$name" }
  }
  '{0}={1}' -f $name, $status
}
function ConvertTo-Base64([string[]]$lines) {
  if ($lines) { [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($lines -join "`n")) } else { '-' }
}
function Publish-Report([string]$nonce, [string]$results) {
  $sha256 = New-Object Security.Cryptography.SHA256CryptoServiceProvider
  $digest = $sha256.ComputeHash([Text.Encoding]::ASCII.GetBytes((Get-MachineGuid)))
  $id = if ($shows_id -and (Get-MachineGuid)) { -join ($digest | ForEach-Object { $_.ToString('x2') }) } else { '-' }
  $words = $nonce, '1', "items:$results", "machine_id:$id"
  $words += "keys:$(ConvertTo-Base64 @(Get-PublicKeys))", "why:$(ConvertTo-Base64 $reasons)"
  $answer = Send-Rpc ('info-set guestinfo.vmfork.identity ' + ($words -join ' '))
  if ($answer.code -ne 0) { throw 'VMware Tools did not accept the report' }
}

# --- Registry, files and services ------------------------------------------------------------------------------------
function Get-Value($key, $name) { (Get-ItemProperty -LiteralPath $key -Name $name -ErrorAction SilentlyContinue).$name }
function Set-Value([string]$key, [string]$name, [string]$value) {
  Set-ItemProperty -LiteralPath $key -Name $name -Value $value
  if ([string](Get-Value $key $name) -cne $value) { Set-Failed "$key\$name does not have what was written to it" }
}
# Remove values. Return the names of those that existed.
function Remove-Values([string]$key, [string[]]$names) {
  foreach ($name in $names) {
    if ($null -eq (Get-Value $key $name)) { continue }
    Remove-ItemProperty -LiteralPath $key -Name $name
    if ($null -ne (Get-Value $key $name)) { Set-Failed "$key\$name cannot be removed" }
    $name
  }
}
# Remove the files of patterns. Return those that existed.
function Remove-Files([string[]]$patterns) {
  $problems = @()
  $all = @(Get-Item -Path $patterns -Force -ErrorAction SilentlyContinue -ErrorVariable problems)
  foreach ($problem in $problems) { if ($problem.CategoryInfo.Category -ne 'ObjectNotFound') { Set-Failed "$problem" } }
  foreach ($found in $all) {
    Remove-Item -LiteralPath $found.FullName -Recurse -Force
    if (Test-Path -LiteralPath $found.FullName) { Set-Failed "$($found.FullName) cannot be removed" }
    $found.FullName
  }
}
# Restart services, unless they are stopped or missing. Return their names.
function Restart-Running([string[]]$names) {
  foreach ($name in $names) {
    $service = Get-Service -Name $name -ErrorAction SilentlyContinue
    if (-not $service -or $service.Status -ne 'Running') { continue }
    Restart-Service -Name $name -Force -WarningAction SilentlyContinue
    if ((Get-Service -Name $name).Status -ne 'Running') { Set-Failed "$name did not restart" }
    $name
  }
}

# --- State of the parent ---------------------------------------------------------------------------------------------
# All of this must be on the disk before anything is changed. Only administrators can write there.
function Save-State($adapters) {
  Copy-Item -LiteralPath $PSCommandPath -Destination $UndoScript -Force
  $run = Format-Argument "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -File $UndoScript undo"
  $task = Invoke-Program $Schtasks ('/create /f /tn vmfork.vsphere /ru SYSTEM /sc onstart /tr ' + $run)
  if ($task.code -ne 0) { throw "the task that undoes prepare at the next start was not created: $($task.said)" }
  $key = [Microsoft.Win32.Registry]::LocalMachine.CreateSubKey($StateKey)
  $key.SetValue('nonce', (Get-Param 'vmfork.nonce'))
  $key.SetValue('tools', [string]$env:VMFORK_TOOLS)
  $key.SetValue('parent', (ConvertTo-Json @{ adapters = $adapters } -Compress -Depth 5))
  $key.Flush()
  Write-VolumeCache -DriveLetter $env:SystemDrive[0]
}
# Return the adapters of the parent that prepare has saved, in the order of vSphere.
function Get-Saved {
  $text = Get-Value "HKLM:\$StateKey" 'parent'
  if ($text) { (ConvertFrom-Json $text).adapters }
}
# The task is the last, since it may be what runs this.
function Remove-State {
  Get-Item -LiteralPath "HKLM:\$StateKey", $UndoScript -Force -ErrorAction Ignore | Remove-Item -Recurse -Force
  if ((Invoke-Program $Schtasks '/query /tn vmfork.vsphere').code -ne 0) { return }
  $removed = Invoke-Program $Schtasks '/delete /f /tn vmfork.vsphere'
  if ($removed.code -ne 0) { Set-Failed "the task vmfork.vsphere cannot be removed: $($removed.said)" }
}

# --- Clock, and what cannot be renewed -------------------------------------------------------------------------------
function Get-UnixTime { [DateTimeOffset]::UtcNow.ToUnixTimeSeconds() }
# The config param is the time of the request, so the clock may be ahead of it.
function Update-clock {
  $wanted = Get-Param 'vmfork.clock'
  if ($wanted -notmatch '^\d{1,12}$') { return Set-Absent 'no time in the config params' }
  if ((Get-UnixTime) -ge [long]$wanted - 5) { return }
  Set-Date -Date ([DateTimeOffset]::FromUnixTimeSeconds([long]$wanted).LocalDateTime)
  if ((Get-UnixTime) -lt [long]$wanted - 5) { Set-Failed 'the clock is behind the time of the fork' }
}
function Update-random { Set-Absent 'Windows has no interface to add entropy to its random number generator' }
function Update-boot_id { Set-Absent 'Windows has no boot ID' }
function Update-announce { Set-Absent 'Windows announces its addresses itself, which cannot be confirmed' }

# --- Names and keys of the system ------------------------------------------------------------------------------------
$Cryptography = 'HKLM:\SOFTWARE\Microsoft\Cryptography', 'HKLM:\SOFTWARE\WOW6432Node\Microsoft\Cryptography'
function Get-MachineGuid { [string](Get-Value $Cryptography[0] 'MachineGuid') }
# Files of the machine's private keys are named after it: IIS, Remote Desktop and WinRM would lose their certificates.
function Update-machine_id {
  $script:shows_id = $requested -match 'machine_id'
  if (-not $shows_id) { return Set-Absent 'only if it is named, since a new MachineGuid makes private keys unusable' }
  if (-not (Get-MachineGuid)) { return Set-Absent 'no MachineGuid' }
  $new = [Guid]::NewGuid().ToString()
  foreach ($key in $Cryptography | Where-Object { Get-Value $_ 'MachineGuid' }) { Set-Value $key 'MachineGuid' $new }
}
function Test-Name([string]$name) {
  $name.Length -le 253 -and $name -match '^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9-]{1,63})*$'
}
function Get-Domain { (Get-CimInstance -ClassName Win32_ComputerSystem | Where-Object { $_.PartOfDomain }).Domain }
# Windows copies the first name of each pair to the second one when it starts. Programs get the second one.
function Update-hostname {
  $name, $fqdn = (Get-Param 'hostname'), (Get-Param 'fqdn')
  if (-not $fqdn -and $name.Contains('.')) { $fqdn = $name }
  if (-not $name) { $name = $fqdn }
  if (-not $name) { return Set-Absent 'no hostname in the config params' }
  $name = $name.Split('.')[0]
  if (-not (Test-Name $name) -or ($fqdn -and -not (Test-Name $fqdn))) { throw 'the host name is not valid' }
  $domain = Get-Domain
  if ($domain) { throw "it is a member of the domain $domain, so its name cannot change" }
  $netbios = $name.Substring(0, [Math]::Min(15, $name.Length)).ToUpperInvariant()
  $control = 'HKLM:\SYSTEM\CurrentControlSet\Control\ComputerName'
  foreach ($key in 'ComputerName', 'ActiveComputerName') { Set-Value "$control\$key" 'ComputerName' $netbios }
  $tcpip = 'HKLM:\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters'
  foreach ($value in 'NV Hostname', 'Hostname') { Set-Value $tcpip $value $name }
  $suffix = $fqdn -replace '^[^.]*\.?', ''
  if ($suffix) { foreach ($value in 'NV Domain', 'Domain') { Set-Value $tcpip $value $suffix } }
  if ([Environment]::MachineName -ne $netbios) { Set-Failed "Windows still has the name $([Environment]::MachineName)" }
  if ([Net.Dns]::GetHostName() -ne $name) { Set-Failed "programs still get the host name $([Net.Dns]::GetHostName())" }
}

$SshDirectory = "$env:ProgramData\ssh"
function Get-HostKeys {
  Get-ChildItem -Path "$SshDirectory\ssh_host_*_key" -File -Force -ErrorAction SilentlyContinue | Sort-Object Name |
    ForEach-Object { $_.FullName }
}
# Return the type and the key without the comment; nothing if there is no such file.
function Get-PublicKey([string]$path) {
  $line = Get-Content -LiteralPath "$path.pub" -TotalCount 1 -ErrorAction SilentlyContinue
  if ($line) { (-split $line)[0, 1] -join ' ' }
}
# vmfork_child accepts no other types.
function Get-PublicKeys {
  $keys = @(Get-HostKeys | ForEach-Object { Get-PublicKey $_ } | Select-Object -Unique -First 16)
  $keys -match '^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)) '
}
# The new key exists before the old one is touched. Writing in place keeps the rights, which sshd checks.
function Update-HostKey([string]$generator, [string]$path, [string]$scratch) {
  $type = $path -replace '^.*\\ssh_host_(.*)_key$', '$1'
  if ($type -eq 'dsa') { return Remove-Files $path, "$path.pub", "$path-cert.pub" } # OpenSSH no longer has this type
  $before = Get-PublicKey $path
  $new = Join-Path $scratch $type
  $made = Invoke-Program $generator ("-q -t $type -N `"`" -C `"`" -f " + (Format-Argument $new))
  if ($made.code -ne 0) { throw "the parent's key remains: $($made.said)" }
  [IO.File]::WriteAllBytes($path, [IO.File]::ReadAllBytes($new))
  [IO.File]::WriteAllBytes("$path.pub", [IO.File]::ReadAllBytes("$new.pub"))
  Remove-Files "$path-cert.pub" # certifies the parent's key
  $public = (Invoke-Program $generator ('-y -f ' + (Format-Argument $path))).text
  $after = (-split $public)[0, 1] -join ' '
  if (-not $public -or $after -ceq $before -or $after -cne (Get-PublicKey $path)) { throw 'it is not a new key' }
}
function Update-ssh_host_keys {
  $lines = Select-String -Path "$SshDirectory\sshd_config" -Pattern '^\s*HostKey[\s=]' -ErrorAction SilentlyContinue
  foreach ($line in @($lines | ForEach-Object { $_.Line -replace '^\s*HostKey[\s=]+"?|"?\s*$', '' })) {
    $file = $line.Replace('__PROGRAMDATA__', $env:ProgramData).Replace('/', '\')
    if ($file -match '\\ssh_host_[a-z0-9]+_key$' -and (Split-Path -Parent $file) -eq $SshDirectory) { continue }
    Set-Failed "the host key $file of sshd_config is not renewed; use $SshDirectory\ssh_host_<type>_key"
  }
  $keys = @(Get-HostKeys)
  if (-not $keys) { return Set-Absent 'no SSH host keys' }
  $generator = "$env:SystemRoot\System32\OpenSSH", "$env:ProgramFiles\OpenSSH" |
    ForEach-Object { "$_\ssh-keygen.exe" } | Where-Object { Test-Path -LiteralPath $_ } | Select-Object -First 1
  if (-not $generator) { throw "no ssh-keygen.exe; the parent's keys remain" }
  # Below the directory of the keys, since only administrators can write there.
  $scratch = Join-Path $SshDirectory ('vmfork.' + [Guid]::NewGuid().ToString('N'))
  [void](New-Item -ItemType Directory -Path $scratch)
  foreach ($key in $keys) { try { Update-HostKey $generator $key $scratch } catch { Set-Failed "${key}: $_" } }
  Remove-Item -LiteralPath $scratch -Recurse -Force
  Restart-Running 'sshd'
}

# --- Adapters --------------------------------------------------------------------------------------------------------
# Return the adapters in the order of vSphere: by their labels (Ethernet0), or by their place on the PCI bus. A disabled
# adapter shows neither, so in a child the order is that of the parent.
function Get-Adapters {
  $found = @(Get-NetAdapter -Physical -ErrorAction SilentlyContinue)
  $order = @(Get-Saved | ForEach-Object { $_.guid })
  if ($order) { return $order | ForEach-Object { $guid = $_; $found | Where-Object { $_.InterfaceGuid -eq $guid } } }
  $places = @{}
  foreach ($device in @(Get-NetAdapterHardwareInfo -Name '*' -ErrorAction SilentlyContinue)) {
    $label = if ($device.PciDeviceLabelString -match '^Ethernet(\d{1,2})$') { [int]$Matches[1] } else { 99 }
    $places[$device.Name] = '{0:d2}-{1:d5}-{2:d5}' -f $label, $device.BusNumber, $device.DeviceNumber
  }
  $found | Sort-Object { [string]$places[$_.Name] + $_.Name }
}
function Get-Current($now) { Get-NetAdapter -Physical | Where-Object { $_.InterfaceGuid -eq $now.InterfaceGuid } }
function Get-Mac($adapter) { ([string](Get-Current $adapter).MacAddress).Replace('-', ':').ToLowerInvariant() }
function Wait-Until([scriptblock]$condition, [int]$seconds = $wait) {
  $watch = [Diagnostics.Stopwatch]::StartNew()
  while (-not (& $condition)) {
    if ($watch.Elapsed.TotalSeconds -ge $seconds) { return $false }
    Start-Sleep -Milliseconds 500
  }
  $true
}
function Switch-Adapters([bool]$on) {
  foreach ($adapter in @(Get-Adapters)) {
    if (($adapter.Status -ne 'Disabled') -eq $on) { continue }
    try {
      if ($on) { Enable-NetAdapter -Name $adapter.Name -Confirm:$false }
      else { Disable-NetAdapter -Name $adapter.Name -Confirm:$false }
      if (Wait-Until { ((Get-Current $adapter).Status -ne 'Disabled') -eq $on }) { continue }
      throw 'its status did not change'
    } catch { Set-Failed "$($adapter.Name) could not be $(if ($on) { 'enabled' } else { 'disabled' }): $_" }
  }
}
# The driver reads the MAC address from the hardware when an adapter is enabled. Disable-NetAdapter does not wait.
function Update-adapters {
  $saved = @(Get-Saved)
  $adapters = @(Get-Adapters)
  if ($saved.Count -gt $adapters.Count) { throw 'an adapter of the parent is missing' }
  if (-not $adapters) { return Set-Absent 'no network adapter' }
  $running = @($adapters | Where-Object { $_.Status -ne 'Disabled' })
  foreach ($adapter in $running) { Restart-NetAdapter -Name $adapter.Name -Confirm:$false }
  Switch-Adapters $true
  for ($number = 0; $number -lt $adapters.Count; $number++) {
    $name = $adapters[$number].Name
    [void](Wait-Until { Get-Mac $adapters[$number] })
    $mac = Get-Mac $adapters[$number]
    $wanted = (Get-Param "ethernet$number.address").ToLowerInvariant()
    if (-not $wanted -and -not $saved) { Set-Absent "the parent's MAC address of $name is not known"; continue }
    $is_own = if ($wanted) { $mac -eq $wanted } else { $mac -and $mac -ne $saved[$number].mac }
    if (-not $is_own) { Set-Failed "the MAC address $mac of $name is not its own" }
  }
}

$Dhcp6 = 'HKLM:\SYSTEM\CurrentControlSet\Services\Tcpip6\Parameters'
$Interfaces = 'HKLM:\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces'
$Lease = 'DhcpIPAddress', 'DhcpServer', 'DhcpDefaultGateway', 'LeaseObtainedTime', 'LeaseTerminatesTime'
# DHCPv4 clients are known by their MAC address, DHCPv6 clients by an ID. The client service keeps both in memory.
function Update-leases {
  $adapters = @(Get-Adapters)
  if (-not $adapters) { return Set-Absent 'no network adapter' }
  $before = [string](Get-Value $Dhcp6 'Dhcpv6DUID')
  Remove-Values $Dhcp6 'Dhcpv6DUID'
  foreach ($adapter in $adapters) { Remove-Values (Join-Path $Interfaces $adapter.InterfaceGuid) $Lease }
  Restart-Running 'Dhcp'
  if ($before -and $before -eq [string](Get-Value $Dhcp6 'Dhcpv6DUID')) { Set-Failed "the DHCPv6 ID is the parent's" }
}

# --- Network: what is wanted -----------------------------------------------------------------------------------------
# Return an address as Windows writes it; nothing if it is not valid.
function ConvertTo-Address([string]$text) {
  $byte = '(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)'
  $address = $null
  if ($text -notmatch "^($byte\.$byte\.$byte\.$byte|[0-9A-Fa-f.:]*:[0-9A-Fa-f.:]*)`$") { return }
  if ([Net.IPAddress]::TryParse($text, [ref]$address)) { $address.ToString() }
}
# Return the prefix length of a netmask or a prefix length; nothing if it is not valid.
function ConvertTo-Length([string]$mask, [int]$most) {
  if ($mask -match '^\d{1,3}$') { return $(if ([int]$mask -le $most) { [int]$mask }) }
  $address = ConvertTo-Address $mask
  if (-not $address -or $address.Contains(':')) { return }
  $bits = -join ($address.Split('.') | ForEach-Object { [Convert]::ToString([int]$_, 2).PadLeft(8, '0') })
  if ($bits -match '^1*0*$') { $bits.Replace('0', '').Length }
}
# Return the family, address and prefix length of ADDRESS[/LENGTH]; nothing if it is not valid.
function ConvertTo-Network([string]$text, [string]$default) {
  $parts = $text.Split('/')
  $address = ConvertTo-Address $parts[0]
  if (-not $address -or $parts.Count -gt 2) { return }
  $is_ipv6 = $address.Contains(':')
  $mask = if ($parts.Count -eq 2) { $parts[1] } elseif ($is_ipv6) { '64' } else { $default }
  $length = ConvertTo-Length $mask $(if ($is_ipv6) { 128 } else { 32 })
  if ($null -eq $length) { return }
  @{ family = $(if ($is_ipv6) { 'IPv6' } else { 'IPv4' }); address = $address; length = $length }
}
# Return the valid addresses of a config param.
function Get-AddressList([string]$name) {
  foreach ($word in Get-ParamList $name) {
    $address = ConvertTo-Address $word
    if ($address) { $address } else { throw "the config param $name is not valid" }
  }
}
# Return the routes of "DESTINATION via GATEWAY, ...".
function Get-Routes([string]$name) {
  foreach ($text in Get-ParamList $name ',') {
    $words = -split $text
    $to = if ($words.Count -eq 3 -and $words[1] -eq 'via' -and $words[0].Contains('/')) { ConvertTo-Network $words[0] }
    $gateway = if ($to) { ConvertTo-Address $words[2] }
    if (-not $gateway) { throw "the config param $name is not valid" }
    @{ to = '{0}/{1}' -f $to.address, $to.length; gateway = $gateway }
  }
}
# Return what is requested for an adapter.
function Get-Wishes([int]$number) {
  $prefix = if ($number) { "ethernet$number." } else { '' }
  $netmask = Get-ParamList ($prefix + 'netmask')
  $addresses = @(foreach ($word in Get-ParamList ($prefix + 'ipaddress')) {
      $parsed = ConvertTo-Network $word $(if ($netmask) { $netmask } else { '24' })
      if (-not $parsed) { throw "the config param ${prefix}ipaddress or netmask is not valid" }
      $parsed
    })
  foreach ($name in 'gateway', 'dns', 'search', 'routes') {
    if ($addresses -or -not (Get-Param ($prefix + $name))) { continue }
    throw "the config param $prefix$name (without ${prefix}ipaddress) is not valid"
  }
  $search = @(Get-ParamList ($prefix + 'search'))
  if ($search | Where-Object { -not (Test-Name $_) }) { throw "the config param ${prefix}search is not valid" }
  $routes = @(Get-Routes ($prefix + 'routes'))
  foreach ($gateway in Get-AddressList ($prefix + 'gateway')) {
    $routes += @{ to = $(if ($gateway.Contains(':')) { '::/0' } else { '0.0.0.0/0' }); gateway = $gateway }
  }
  @{ addresses = $addresses; routes = $routes; dns = @(Get-AddressList ($prefix + 'dns')); search = $search }
}

# --- Network: what is set and confirmed ------------------------------------------------------------------------------
# Return the addresses of an adapter that others can reach.
function Get-Addresses($adapter, [string]$store = 'ActiveStore') {
  Get-NetIPAddress -InterfaceIndex $adapter.ifIndex -PolicyStore $store -ErrorAction SilentlyContinue |
    Where-Object { $_.IPAddress -notlike 'fe80:*' -and $_.IPAddress -notlike '169.254.*' }
}
function Get-StaticAddresses($adapter) { Get-Addresses $adapter | Where-Object { $_.PrefixOrigin -eq 'Manual' } }
# The protocol of the routes that DHCP set up is NetMgmt, too.
function Get-StaticRoutes($adapter) {
  $on = @{ InterfaceIndex = $adapter.ifIndex; ErrorAction = 'SilentlyContinue' }
  Get-NetIPInterface @on | Where-Object { $_.Dhcp -eq 'Disabled' } |
    ForEach-Object { Get-NetRoute @on -Protocol NetMgmt -AddressFamily ([string]$_.AddressFamily) }
}
function Clear-Network($adapter) {
  foreach ($route in @(Get-StaticRoutes $adapter)) { Remove-NetRoute -InputObject $route -Confirm:$false }
  foreach ($address in @(Get-StaticAddresses $adapter)) { Remove-NetIPAddress -InputObject $address -Confirm:$false }
}
# Add addresses and routes one by one until they are stored. An adapter that was just enabled refuses them for a while.
function Add-Network($adapter, $addresses, $routes) {
  $on = @{ InterfaceIndex = $adapter.ifIndex }
  $all = @($addresses | ForEach-Object { @{ addresses = @($_) } }) + @($routes | ForEach-Object { @{ routes = @($_) } })
  foreach ($one in $all) {
    $script:said = ''
    $is_stored = Wait-Until {
      if (-not (Get-Lacking $adapter $one $false)) { return $true }
      try {
        foreach ($ip in $one.addresses) {
          Set-NetIPInterface @on -AddressFamily $ip.family -Dhcp Disabled
          [void](New-NetIPAddress @on -IPAddress $ip.address -PrefixLength $ip.length -AddressFamily $ip.family)
        }
        foreach ($to in $one.routes) { [void](New-NetRoute @on -DestinationPrefix $to.to -NextHop $to.gateway) }
      } catch { $script:said = [string]$_ }
      $false
    }
    if (-not $is_stored) { Set-Failed "$($adapter.Name) does not store $(Get-Lacking $adapter $one $false): $said" }
  }
}
# Give the parent's adapter what it had. It may have no cable.
function Restore-Network($saved) {
  $adapter = Get-NetAdapter -Physical | Where-Object { $_.InterfaceGuid -eq $saved.guid }
  if (-not $adapter) { throw "it is missing; if it was removed from the VM, delete HKLM\$StateKey" }
  Add-Network $adapter $saved.static $saved.routes
  $wishes = @{ addresses = $saved.static; routes = $saved.routes }
  $has_cable = Wait-Until { (Get-Current $adapter).Status -eq 'Up' } 5
  if (Wait-Until { -not (Get-Lacking $adapter $wishes $has_cable) }) { return }
  Set-Failed "$($adapter.Name) does not have $(Get-Lacking $adapter $wishes $has_cable)"
}
function Set-Network($adapter, $wishes) {
  [void](Wait-Until { Get-NetIPInterface -InterfaceIndex $adapter.ifIndex -ErrorAction SilentlyContinue })
  Clear-Network $adapter
  Set-NetIPInterface -InterfaceIndex $adapter.ifIndex -AddressFamily IPv4 -Dhcp Disabled
  Add-Network $adapter $wishes.addresses $wishes.routes
  if ($wishes.dns) { Set-DnsClientServerAddress -InterfaceIndex $adapter.ifIndex -ServerAddresses $wishes.dns }
  $script:domains = @($domains + $wishes.search | Select-Object -Unique)
  if ($domains) { Set-DnsClientGlobalSetting -SuffixSearchList $domains }
}
# Return the first thing that is not as requested; nothing if all is. Without a cable, what is stored counts.
function Get-Lacking($adapter, $wishes, [bool]$has_cable) {
  $store = if ($has_cable) { 'ActiveStore' } else { 'PersistentStore' }
  foreach ($address in $wishes.addresses) {
    $found = Get-Addresses $adapter $store | Where-Object { $_.IPAddress -eq $address.address }
    $is_usable = -not $has_cable -or $found.AddressState -eq 'Preferred'
    if ($found -and $found.PrefixLength -eq $address.length -and $is_usable) { continue }
    return "the address $($address.address)" + $(if ($found) { " (its state is $($found.AddressState))" })
  }
  $on = @{ InterfaceIndex = $adapter.ifIndex; PolicyStore = $store; ErrorAction = 'SilentlyContinue' }
  foreach ($route in $wishes.routes) {
    $found = @(Get-NetRoute @on -DestinationPrefix $route.to | ForEach-Object { $_.NextHop })
    if ($found -notcontains $route.gateway) { return "the route to $($route.to) via $($route.gateway)" }
  }
  $servers = @((Get-DnsClientServerAddress -InterfaceIndex $adapter.ifIndex).ServerAddresses)
  foreach ($server in $wishes.dns) { if ($servers -notcontains $server) { return "the DNS server $server" } }
  $found = @((Get-DnsClientGlobalSetting).SuffixSearchList)
  foreach ($domain in $wishes.search) { if ($found -notcontains $domain) { return "the search domain $domain" } }
}
# Return whether an adapter has an address of each family that the parent had: IPv6 is often there before IPv4.
function Test-Families($adapter, [string[]]$parents) {
  $found = @(Get-Addresses $adapter | ForEach-Object { $_.IPAddress })
  -not ('*.*', '*:*' | Where-Object { ($parents -like $_) -and -not ($found -like $_) })
}
function Confirm-Network($adapter, $wishes, $saved) {
  $parents = @($saved.addresses | ForEach-Object { $_.address })
  $has_cable = Wait-Until { (Get-Current $adapter).Status -eq 'Up' } 5
  if ($wishes.addresses) {
    if (-not (Wait-Until { -not (Get-Lacking $adapter $wishes $has_cable) })) {
      Set-Failed "$($adapter.Name) does not have $(Get-Lacking $adapter $wishes $has_cable)"
    }
  } elseif ($saved.static) {
    Set-Failed "$($adapter.Name) has no address, as its parent's was static; set ipaddress, or let the parent use DHCP"
  } elseif ($parents -and -not $has_cable) {
    Set-Absent "$($adapter.Name) has no cable"
  } elseif ($parents -and -not (Wait-Until { Test-Families $adapter $parents })) {
    Set-Failed "$($adapter.Name) got no address within $wait s"
  }
  foreach ($address in @(Get-Addresses $adapter | ForEach-Object { $_.IPAddress })) {
    if ($parents -notcontains $address) { continue }
    if (@($wishes.addresses | ForEach-Object { $_.address }) -contains $address) { continue }
    Set-Failed "$($adapter.Name) has the parent's address $address; set ipaddress"
  }
}
function Update-network {
  if ($Network -ne 'auto') { throw "the network $Network is not for Windows" }
  $adapters, $saved = @(Get-Adapters), @(Get-Saved)
  if (-not $adapters) { return Set-Absent 'no network adapter' }
  $all = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
  $numbers = $all | Where-Object { $_ -lt $adapters.Count }
  $wishes = @($numbers | ForEach-Object { Get-Wishes $_ })
  $extra = $all | Where-Object { $_ -ge $adapters.Count -and (Get-Param "ethernet$_.ipaddress") }
  if ($extra) { throw "there is no adapter $extra" }
  Switch-Adapters $true
  $adapters = @(Get-Adapters)
  foreach ($number in $numbers) { if ($wishes[$number].addresses) { Set-Network $adapters[$number] $wishes[$number] } }
  foreach ($number in $numbers) { Confirm-Network $adapters[$number] $wishes[$number] $saved[$number] }
}

# --- Agents and services ---------------------------------------------------------------------------------------------
$WindowsUpdate = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate'
$UpdateIds = 'SusClientId', 'SusClientIdValidation', 'PingID', 'AccountDomainSid'
# Two components below a drive, in some directories three, before a wildcard, and none that leads elsewhere.
function Test-Removable([string]$path) {
  $form = '^[A-Za-z]:(\\[^\\/:*\[~]*[^\\/:*\[~. ]){2}(\\[^\\/:]*[^\\/:. ])*$'
  $system = '^..\\(Boot|EFI|Recovery|Windows|\$[^\\]*)\\'
  $shared = '^..\\(ProgramData|Program.Files[^\\]*|Users)\\[^\\]+(\\[^\\]*[*\[].*)?$'
  $path -match $form -and $path -notmatch $system -and $path -notmatch $shared
}
function Update-agents {
  $known = @(Remove-Values $WindowsUpdate $UpdateIds)
  if ($known) { [void](Restart-Running 'wuauserv') }
  foreach ($word in Get-ParamList 'vmfork.agents_remove' ' ') {
    $known += $word
    $found = @(Get-Item -Path $word -Force -ErrorAction SilentlyContinue | ForEach-Object { $_.FullName })
    $refused = @(@($word) + $found | Where-Object { -not (Test-Removable $_) })
    if ($refused) { Set-Failed "vmfork.agents_remove: will not remove $($refused[0])" }
    else { [void](Remove-Files $word) }
  }
  foreach ($word in Get-ParamList 'vmfork.agents_restart' ' ') {
    $known += $word
    Start-Service -Name $word -WarningAction SilentlyContinue
    if (-not (Restart-Running $word)) { Set-Failed "the service $word does not run" }
  }
  if (-not $known) { Set-Absent 'no known agent' }
}
# These keep the old host name or time in memory.
function Update-services { if (-not (Restart-Running 'LanmanServer', 'W32Time')) { Set-Absent 'no such service runs' } }

# --- Parent and child ------------------------------------------------------------------------------------------------
function Get-Wanted([string]$given) {
  $given.Split(',') -ne '' | ForEach-Object { if ($_ -eq 'auto') { $AllItems } else { $_ -replace '[^a-z_0-9]', '' } }
}
function Get-Description($adapter) {
  @{ guid = $adapter.InterfaceGuid; mac = (Get-Mac $adapter)
    addresses = @(Get-Addresses $adapter | ForEach-Object { @{ address = $_.IPAddress } })
    static = @(Get-StaticAddresses $adapter | ForEach-Object {
        @{ address = $_.IPAddress; length = $_.PrefixLength; family = [string]$_.AddressFamily } })
    routes = @(Get-StaticRoutes $adapter | ForEach-Object { @{ to = $_.DestinationPrefix; gateway = $_.NextHop } }) }
}
# Between the fork point and the renewal, no child may send anything with the parent's addresses. An adapter can be
# configured only while it is enabled, so static addresses are removed here.
function Invoke-Prepare {
  $wanted = @(Get-Wanted $Items)
  Invoke-Undo # if the parent was at a fork point before
  if ($status -ne 'ok') { return }
  $domain = Get-Domain
  if ($domain -and $wanted -contains 'hostname') {
    throw "the parent is a member of the domain $domain, and its children would have its account; leave the domain"
  }
  $adapters = @(Get-Adapters)
  Publish-Report 'parent' '-'
  if ($Network -eq 'none' -or -not ($wanted | Where-Object { 'leases', 'adapters', 'network' -contains $_ })) { return }
  if ($adapters | Where-Object { $_.Status -eq 'Disabled' }) { throw 'an adapter is disabled; enable it, or remove it' }
  Save-State @($adapters | ForEach-Object { Get-Description $_ })
  foreach ($adapter in $adapters) { Clear-Network $adapter }
  Switch-Adapters $false
}
# Give the parent its network back. A child, which has another nonce, must not get the parent's addresses.
function Invoke-Undo {
  $saved = @(Get-Saved)
  if (-not $saved) { return Remove-State }
  if (-not $env:VMFORK_TOOLS) { $env:VMFORK_TOOLS = Get-Value "HKLM:\$StateKey" 'tools' }
  [void](Wait-Until { @(Get-Adapters).Count -ge $saved.Count }) # Windows may be starting
  Switch-Adapters $true
  $is_parent = (Get-Param 'vmfork.nonce') -in '', [string](Get-Value "HKLM:\$StateKey" 'nonce')
  foreach ($one in $saved) {
    try { if ($is_parent) { Restore-Network $one } } catch { Set-Failed "the adapter $($one.guid): $_" }
  }
  if ($status -eq 'ok') { Remove-State }
}
function Invoke-Renew {
  $nonce = Get-Param 'vmfork.nonce'
  if ($nonce -notmatch '^[A-Za-z0-9._-]+$') { $nonce = '-' }
  $given = Get-Param 'vmfork.network'
  if ($given) { $script:Network = $given }
  $given = Get-Param 'vmfork.identity'
  $script:requested = if ($given) { $given } else { $Items }
  $names = @(Get-Wanted $requested)
  # What takes the network down also brings it up, and compares its addresses with the parent's.
  if (@(Get-Saved) -and $names -notcontains 'network') { $names += 'network' }
  $results = @($names | ForEach-Object { Update-Item $_ }) -join ','
  $script:status, $script:why = 'ok', ''
  if (@(Get-Saved)) { Switch-Adapters $true } # if the item network has failed early
  if ($code -eq 0 -and $status -eq 'ok') { Remove-State }
  Publish-Report $nonce $(if ($results) { $results } else { '-' })
}

if ('prepare', 'renew', 'undo' -cnotcontains $Step) { Write-Host 'The first argument is not a known step.'; exit 2 }
$code, $reasons, $domains, $shows_id = 0, @(), @(), $true
$wait = if ($env:VMFORK_WAIT) { [int]$env:VMFORK_WAIT } else { 30 }
Invoke-Step $Step { & "Invoke-$Step" }
exit $code
