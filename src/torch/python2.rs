//! What Python 3 takes the names of Python 2 for (`_compat_pickle`), as far as they matter here.

/// Modules by their old name.
const MODULES: &[(&str, &str)] = &[
    ("BaseHTTPServer", "http.server"),
    ("CGIHTTPServer", "http.server"),
    ("Cookie", "http.cookies"),
    ("DocXMLRPCServer", "xmlrpc.server"),
    ("Queue", "queue"),
    ("SimpleHTTPServer", "http.server"),
    ("SimpleXMLRPCServer", "xmlrpc.server"),
    ("SocketServer", "socketserver"),
    ("StringIO", "io"),
    ("Tkinter", "tkinter"),
    ("UserDict", "collections"),
    ("UserList", "collections"),
    ("UserString", "collections"),
    ("__builtin__", "builtins"),
    ("_abcoll", "collections.abc"),
    ("_winreg", "winreg"),
    ("anydbm", "dbm"),
    ("cPickle", "pickle"),
    ("cStringIO", "io"),
    ("cookielib", "http.cookiejar"),
    ("copy_reg", "copyreg"),
    ("dbhash", "dbm.bsd"),
    ("dumbdbm", "dbm.dumb"),
    ("exceptions", "builtins"),
    ("gdbm", "dbm.gnu"),
    ("httplib", "http.client"),
    ("robotparser", "urllib.robotparser"),
    ("test.test_support", "test.support"),
    ("thread", "_thread"),
    ("urllib2", "urllib.request"),
    ("urlparse", "urllib.parse"),
    ("whichdb", "dbm"),
    ("xmlrpclib", "xmlrpc.client"),
    // Not of Python: torch's own old name.
    ("torch.tensor", "torch._tensor"),
];

/// Single names, the module in Python 3's spelling.
const NAMES: &[(&str, &str, &str, &str)] = &[
    ("builtins", "basestring", "builtins", "str"),
    ("builtins", "intern", "sys", "intern"),
    ("builtins", "long", "builtins", "int"),
    ("builtins", "reduce", "functools", "reduce"),
    ("builtins", "unichr", "builtins", "chr"),
    ("builtins", "unicode", "builtins", "str"),
    ("builtins", "xrange", "builtins", "range"),
    ("collections", "IterableUserDict", "collections", "UserDict"),
    ("itertools", "ifilter", "builtins", "filter"),
    ("itertools", "ifilterfalse", "itertools", "filterfalse"),
    ("itertools", "imap", "builtins", "map"),
    ("itertools", "izip", "builtins", "zip"),
    ("itertools", "izip_longest", "itertools", "zip_longest"),
];

/// The module and name that Python 3 looks up.
pub fn python3<'a>(module: &'a str, name: &'a str) -> (&'a str, &'a str) {
    let module = MODULES
        .iter()
        .find(|(old, _)| *old == module)
        .map_or(module, |(_, new)| new);
    NAMES
        .iter()
        .find(|(old_module, old_name, ..)| (*old_module, *old_name) == (module, name))
        .map_or((module, name), |(_, _, module, name)| (module, name))
}
