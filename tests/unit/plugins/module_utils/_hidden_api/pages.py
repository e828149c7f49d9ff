# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of the Managed Object Browser in the formats that public clients parse, and pages of other kinds."""

from __future__ import annotations

NONCE = "52a1f0b2-91c4-0d5e-8f27-6ab1cc2d0e11"

FORM = """<html><head><title>VMware Managed Object Browser</title>
<style type="text/css"><!-- td.c1 { width: 1% } --></style>
<script type="text/javascript">/*<![CDATA[ */ function invokeMethod() { document.method.submit(); } /* ]]>*/</script>
</head><body><table summary=""><tr class="title"><td>
<span class="object">Managed Object Type: <strong>ManagedObjectReference:VirtualMachine</strong></span><br />
<span class="property">Managed Object ID: <strong>vm-12</strong></span><br />
<span class="property">Method: <strong>EnableForkParent_Task</strong></span></td></tr></table>
<h1>ManagedObjectReference:Task EnableForkParent_Task</h1><p class="table-title">Parameters</p>
<form name="method" action="/mob/?moid=vm%2d12&method=enableForkParent" method="post">@field@
<table><tr><th>Name</th><th>Type</th><th>Value</th></tr>
<tr><td class="c1" nowrap="nowrap"><strong>host</strong> (optional)</td>
<td class="c2">ManagedObjectReference:HostSystem</td><td><textarea name="host">@entered@</textarea></td></tr></table>
</form><table><tr><td><a href="javascript:invokeMethod()">Invoke Method</a></td></tr></table>@result@</body></html>"""


def form(nonce: str = NONCE, result: str = "", entered: str = "") -> str:
    """Return a method's form, with the result of a call below it."""
    field = f'<input name="vmware-session-nonce" type="hidden" value="{nonce}">' if nonce else ""
    return FORM.replace("@field@", field).replace("@result@", result).replace("@entered@", entered)


def heading(outcome: str, word: str = "Result") -> str:
    """Return the title of a result."""
    return f'<br /><p class="table-title">Method Invocation {word}: {outcome}</p>'


def table(*rows: tuple[str, str, str]) -> str:
    """Return a table of properties."""
    inner = "".join(f'<tr><td class="c2">{n}</td><td class="c1">{t}</td><td>{v}</td></tr>' for n, t, v in rows)
    head = "<tr><th>Name</th><th>Type</th><th>Value</th></tr>"
    return f'<table summary="Table of properties for this Data Object">{head}{inner}</table>'


def task(moid: str = "task-123") -> str:
    """Return the page of a call that started a task."""
    link = f'<a href="/mob/?moid={moid.replace("-", "%2d")}">{moid}</a>'
    result = table(("Return value", "ManagedObjectReference:Task", link))
    return form(result=heading("ManagedObjectReference:Task") + result)


def fault(outcome: str, *rows: tuple[str, str, str], word: str = "Result") -> str:
    """Return the page of a call that raised a fault."""
    common = (("dynamicType", "string", "Unset"), ("faultCause", "LocalizedMethodFault", "Unset"))
    return form(result=heading(outcome, word) + table(*common, *rows))


def fault_alone(name: str, *rows: tuple[str, str, str]) -> str:
    """Return a page that contains only a fault."""
    return f"<html><head><title>\n{name} </title></head><body><h1>{name}</h1>{table(*rows)}</body></html>"


NONCES = {
    "as public clients quote it": f'<input name="vmware-session-nonce" type="hidden" value="{NONCE}">',
    "other order and quotes": f"<INPUT TYPE='hidden' VALUE='{NONCE}' NAME='vmware-session-nonce' />",
    "no quotes": f"<input type=hidden name=vmware-session-nonce value={NONCE}>",
    "over lines": f'<input\n  type="hidden"\n  name="vmware-session-nonce"\n  value="{NONCE}"\n/>',
    "after a decoy in a comment": f'<!-- <input name="vmware-session-nonce" value="no"> -->{form()}',
    "after a decoy in a script": f'<script>x = \'<input name="vmware-session-nonce" value="no">\'</script>{form()}',
}

TASKS = {
    "the browser in C++": task(),
    "a link without escapes": form(
        result=heading("ManagedObjectReference:Task") + '<ul><li><a href="?moid=task-123">task-123</a></ul>'
    ),
    "the browser in Python": form(
        result=heading("vim.Task")
        + "<table><tr><th>Name</th><th>Type</th><th>Value</th></tr><tr><td>result</td><td>"
        + "&lt;class 'pyVmomi.VmomiSupport.vim.Task'&gt;</td><td>"
        + '<a href="/mob/?_type=vim.Task&moid=task-123">task-123</a></td></tr></table>'
    ),
    "a heading over lines": form(
        result="<P>Method\n  Invocation\n Result:<b>\n ManagedObjectReference:Task</b><TABLE><TR><TD>"
        "<A HREF='/mob/?moid=task%2D123'>task-123</A></TABLE>"
    ),
    "no nonce": f'{heading("ManagedObjectReference:Task")}<a href="https://vc/mob/?moid=task-123">task-123</a>',
    "what was entered is shown": form(
        entered="Method Invocation Result: void <a href=?moid=task-1>", result=task().partition("Invoke Method")[2]
    ),
}

MESSAGES = "<ul class=noindent><li>" + table(("key", "string", '"k"'), ("message", "string", '"The disk is in use."'))
CAUSE = table(
    (
        "fault",
        "MethodFault",
        table(("faultMessage", "LocalizableMessage[]", MESSAGES), ("msg", "string", '"Inner."')),
    ),
    ("localizedMessage", "string", '"The cause\'s."'),
)
MOREF = "ManagedObjectReference:VirtualMachine"
VM_LINK = '<a href="/mob/?moid=vm%2d12">vm-12</a> (golden)'

LOG_IN = (
    '<html><title>Login</title><form><input name="username"><input type="password" name="password"></form>'
    "Log in to vCenter Single Sign-On</html>"
)
OTHER_PAGE = "<html><head><title>Welcome to nginx!</title></head><body><h1>Welcome</h1></body></html>"
