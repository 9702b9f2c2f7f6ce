#!/usr/bin/env python3
"""Write fixtures/hostile/cases.json: pickles that would run code, none of which is ever unpickled.

    python3 scripts/make_hostile.py

Plain Python 3; the same bytes every time. Each case says where the idea is published: `picklescan` and `fickling` are
the test suites of those scanners (their cases in our own bytes), GHSA-… an advisory about one of them. The calls carry
no payload: every argument is the text "x" or an empty value.

A case has `name`, `source`, `pickle` (hex) and `finds`: globals that must be among the findings, as the file writes
them. Cases without `finds` only have to be refused or reported as unreadable: Python itself fails at some point, or
what is wrong is no call. `verdict` is `dangerous` but for the cases of MILDER.
"""

import json
import struct
from pathlib import Path

OUT = Path(__file__).parent.parent / "fixtures" / "hostile" / "cases.json"
CASES = []
README = """# Pickles that would run code

Everything here is written by `scripts/make_hostile.py`; edit that, not these files. Nothing here is ever unpickled, and
no call carries a payload: the arguments are the text "x".

**`cases.json`** has a row for each pickle: `name`; `source`, where the idea is published (`picklescan` and `fickling` are
the test suites of those scanners, GHSA-… an advisory about one of them) or why it is dangerous; `pickle` in hexadecimal
digits; `finds`, the globals that must be among the findings, as the file writes them; and `verdict`. Without `finds`
the pickle only must not pass for a clean one. `clean` are those that run nothing: they only name what would, or keep
it for others to call. `unknown` are those that call what no Python, torch or numpy has.

`tests/it/verdicts.rs` runs them.
"""


def case(name, source, pickle, *finds):
    CASES.append({"name": name, "source": source, "pickle": pickle.hex(), "finds": list(finds)})


def text(value, short=True):
    """SHORT_BINUNICODE or BINUNICODE."""
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data if short else b"X" + struct.pack("<I", len(data)) + data


def named(path):
    """GLOBAL of `module name`."""
    module, name = path.split()
    return b"c" + f"{module}\n{name}\n".encode()


def stacked(path):
    """STACK_GLOBAL of `module name`."""
    module, name = path.split()
    return text(module) + text(name) + b"\x93"


def call(callable_, *args):
    """REDUCE; the arguments are opcodes."""
    return callable_ + b"(" + b"".join(args) + b"tR"


X = text("x")


def dotted(path):
    return path.replace(" ", ".")


def calls(source, paths, how=named):
    """One call each of the globals `module name`."""
    for path in paths:
        case(f"call {dotted(path)}", source, b"\x80\x04" + call(how(path), X) + b".", dotted(path))


# --- What the suites call dangerous -----------------------------------------------------------------------

# picklescan, tests/test_scanner.py: one file each.
calls("picklescan", [
    "__builtin__ apply", "__builtin__ compile", "__builtin__ eval", "__builtin__ exec", "builtins eval", "builtins exec",
    "__builtin__ getattr", "_pickle loads", "pickle loads", "aiohttp.client ClientSession", "asyncio.unix_events _UnixSubprocessTransport._start",
    "bdb Bdb", "bdb Bdb.run", "cProfile run", "cProfile runctx", "code InteractiveInterpreter.runcode",
    "cloudpickle.cloudpickle _builtin_type", "cloudpickle.cloudpickle _function_setstate", "cloudpickle.cloudpickle _make_cell",
    "cloudpickle.cloudpickle _make_empty_cell", "cloudpickle.cloudpickle _make_function", "cloudpickle.cloudpickle subimport",
    "ctypes CDLL", "distutils.file_util write_file", "doctest debug_script", "ensurepip _run_pip", "functools partial",
    "httplib HTTPSConnection", "idlelib.autocomplete AutoComplete.fetch_completions", "idlelib.autocomplete AutoComplete.get_entity",
    "idlelib.calltip Calltip.fetch_tip", "idlelib.calltip get_entity", "idlelib.debugobj ObjectTreeItem.SetText",
    "idlelib.pyshell ModifiedInterpreter.runcode", "idlelib.pyshell ModifiedInterpreter.runcommand", "idlelib.run Executive.runcode",
    "imaplib IMAP4_stream", "lib2to3.pgen2.grammar Grammar.loads", "lib2to3.pgen2.pgen ParserGenerator.make_label",
    "logging FileHandler", "numpy.f2py.crackfortran getlincoef", "numpy.testing._private.utils runstring", "nt system",
    "os system", "pip main", "pkgutil resolve_name", "posix system", "profile Profile.run", "profile Profile.runctx",
    "profile run", "pty spawn", "pydoc locate", "pydoc pipepager", "requests.api get", "runpy _run_code",
    "socket create_connection", "ssl get_server_certificate", "subprocess run", "sys exit", "test.support.script_helper assert_python_ok",
    "timeit timeit", "torch._dynamo.guards GuardBuilder.get", "torch._inductor.codecache compile_file",
    "torch.fx.experimental.symbolic_shapes ShapeEnv.evaluate_guards_expression", "torch.jit.unsupported_tensor_ops execWrapper",
    "torch.serialization load", "torch.utils._config_module ConfigModule.load_config",
    "torch.utils.bottleneck.__main__ run_autograd_prof", "torch.utils.bottleneck.__main__ run_cprofile",
    "torch.utils.collect_env run", "torch.utils.data.datapipes.utils.decoder basichandlers", "trace Trace.run", "trace Trace.runctx",
    "types CodeType", "urllib.request urlopen", "uuid _get_command_stdout", "venv create", "webbrowser open", "shutil rmtree",
    "_aix_support _read_cmd_output", "_io FileIO", "_osx_support _read_output", "_pyrepl.pager pipe_pager",
])
# fickling, test_bypasses.py and test_scanner_deactivation_analysis.py: single cases.
calls("fickling", [
    "pty spawn", "marshal loads", "types FunctionType", "runpy run_path", "cProfile run", "ctypes CDLL", "pydoc locate",
    "importlib import_module", "code InteractiveInterpreter", "multiprocessing.util spawnv_passfds", "builtins __import__",
    "builtins getattr", "builtins eval", "distutils.file_util write_file", "_io FileIO",
    "smtplib SMTP", "imaplib IMAP4", "ftplib FTP", "poplib POP3", "telnetlib Telnet", "nntplib NNTP", "uuid _get_command_stdout",
    "_aix_support _read_cmd_output", "_osx_support _find_build_tool", "pathlib os.system", "_interpreters create",
    "_xxsubinterpreters create", "__future__ _ssl.RAND_bytes", "fickling.hook remove_hook", "fickling.hook deactivate_safe_ml_environment",
    "torch.storage _load_from_bytes", "torch load", "torch compile", "torch.utils._config_module ConfigModule",
    "numpy.testing._private.utils runstring", "_io open", "io FileIO", "io open",
    *(f"{module} scan" for module in ("fickling", "picklescan", "modelscan", "model_unpickler", "saferpickle", "modelaudit")),
], stacked)
# fickling, TestUnsafeModuleCoverage: any name in these modules.
calls("fickling", [f"{module} dangerous" for module in (
    "os posix nt subprocess sys pty commands multiprocessing _posixsubprocess code codeop runpy marshal types compile exec "
    "eval doctest _interpreters _xxsubinterpreters importlib _frozen_importlib _frozen_importlib_external _imp imp pkgutil "
    "zipimport gc site unittest inspect test _operator operator functools cProfile profile pdb bdb timeit trace socket ssl "
    "httplib http urllib urllib2 requests aiohttp asyncio webbrowser smtplib imaplib ftplib poplib telnetlib nntplib ctypes "
    "_ctypes pickle _pickle dill cloudpickle joblib shutil tempfile filecmp distutils pydoc pexpect pipes venv ensurepip pip "
    "idlelib lib2to3 socketserver xmlrpc signal _signal threading _thread atexit sqlite3 _sqlite3 fileinput glob platform "
    "linecache difflib compileall py_compile mmap select selectors logging syslog tarfile zipfile shelve uuid _osx_support "
    "_aix_support torch.hub torch._dynamo torch._inductor torch.jit torch.compile numpy.f2py numpy.distutils").split()])
calls("fickling", ["__builtins__ eval"])

# --- What else runs code, by why --------------------------------------------------------------------------

calls("runs code", [
    "antigravity geohash", "builtins breakpoint", "builtins execfile", "codeop compile_command", "compileall compile_dir",
    "dataclasses _create_fn", "dataclasses make_dataclass", "gettext c2py", "IPython start_ipython", "jinja2 Template",
    "llvmlite.binding load_library_permanently", "logging.config dictConfig", "logging.config fileConfig", "logging.config listen",
    "modulefinder ModuleFinder", "numba jit", "PIL.ImageMath eval", "torch.onnx export", "numexpr evaluate", "numpy.ctypeslib load_library", "numpy.distutils.exec_command exec_command",
    "numpy.lib.utils safe_eval", "pandas eval", "pandas.core.computation.eval eval", "pandas.core.frame DataFrame.query", "pdb Pdb.run",
    "py_compile compile", "pyclbr readmodule", "pyximport install", "rlcompleter Completer", "sympy sympify", "sympy.parsing.sympy_parser parse_expr",
    "symtable symtable", "site addsitedir", "site execsitecustomize", "tabnanny check", "test.regrtest main", "torch._ops _Ops.load_library",
    "torch.classes load_library", "torch.fx.graph_module _exec_with_source", "torch.ops load_library",
    "torch.testing._internal.common_utils run_tests", "torch.utils.benchmark Timer", "torch.utils.cpp_extension load_inline",
    "torch.utils.hipify.hipify_python hipify", "trace Trace", "turtledemo.__main__ main", "typing get_type_hints", "typing ForwardRef._evaluate",
    "ultralytics.nn.tasks parse_model", "unittest.mock patch", "zipapp create_archive", "hydra.utils instantiate", "cffi FFI", "_cffi_backend load_library",
])
calls("starts something", [
    "asyncio create_subprocess_shell", "atexit register", "cgitb enable", "commands getoutput", "concurrent.futures ThreadPoolExecutor",
    "concurrent.futures.process ProcessPoolExecutor", "concurrent.interpreters create", "contextlib ExitStack", "faulthandler _sigsegv",
    "joblib.externals.loky get_reusable_executor", "mailcap findmatch", "multiprocessing Process", "multiprocessing.popen_fork Popen", "os popen", "os.path join",
    "pexpect spawn", "pipes Template", "platform popen", "platform _syscmd_ver", "popen2 popen3", "posix execv", "ptyprocess PtyProcess.spawn", "ray init",
    "sched scheduler", "setuptools setup", "sh Command", "PIL.ImageShow show", "signal signal", "signal alarm", "subprocess Popen", "sysconfig _main", "thread start_new_thread",
    "threading Thread", "threading Timer", "_thread start_new_thread", "tkinter Tcl", "torch.distributed.elastic.multiprocessing start_processes",
    "torch.distributed.run main", "torch.multiprocessing spawn", "turtle Screen", "ultralytics.utils.checks check_requirements",
    "weakref finalize", "win32com.client Dispatch", "pkg_resources load_entry_point", "psutil Popen",
])
calls("imports by name", [
    "builtins __import__", "hydra._internal.utils _locate", "importlib reload", "importlib.util spec_from_file_location",
    "importlib._bootstrap _load", "imp load_source", "lightning_utilities.core.imports module_available", "pandas.compat._optional import_optional_dependency",
    "pkgutil find_loader", "six.moves reload_module", "torch._utils _import_dotted_name", "transformers.dynamic_module_utils get_class_from_dynamic_module",
    "warnings _getcategory", "xml.sax make_parser", "zipimport zipimporter", "any.project get_obj_from_str", "any.project instantiate_from_config",
])
calls("deserialises", [
    "cPickle loads", "dbm open", "dill loads", "joblib load", "joblib.numpy_pickle load", "jsonpickle decode", "keras.models load_model", "marshal load",
    "mlflow.pyfunc load_model", "numpy load", "numpy.lib.npyio load", "onnxruntime InferenceSession", "pandas read_pickle", "pandas.io.pickle read_pickle",
    "pickle Unpickler", "pstats Stats", "ray.cloudpickle loads", "ruamel.yaml load", "numpy loads", "datasets load_dataset", "shelve open", "sklearn.externals.joblib load", "torch.hub load",
    "torch.hub load_state_dict_from_url", "torch.jit load", "torch._C import_ir_module", "torch.package PackageImporter", "torch.serialization _load",
    "torch.utils.model_zoo load_url", "transformers pipeline", "transformers AutoModel.from_pretrained", "ultralytics.nn.tasks attempt_load_weights",
    "xmlrpc.client loads", "yaml unsafe_load", "timm.models._helpers load_checkpoint",
])
calls("network", [
    "boto3 client", "ftplib FTP", "http.client HTTPConnection", "http.server HTTPServer", "httpx get", "huggingface_hub hf_hub_download", "paramiko SSHClient", "torch.distributed TCPStore", "wandb init",
    "poplib POP3_SSL", "requests get", "select select", "selectors DefaultSelector", "smtpd SMTPServer", "socketserver TCPServer", "telnetlib Telnet", "urllib urlopen",
    "urllib2 urlopen", "urllib.request urlretrieve", "urllib3 PoolManager", "websocket create_connection", "wsgiref.simple_server make_server", "xmlrpclib ServerProxy", "zmq Context",
])
calls("file system", [
    "StringIO open", "_pyio open", "bz2 open", "codecs open", "fcntl ioctl", "fileinput input", "glob glob", "gzip GzipFile", "io open_code", "linecache getlines",
    "logging.handlers RotatingFileHandler", "lzma open", "mailbox mbox", "mmap mmap", "msvcrt LoadLibrary", "numpy fromfile", "numpy memmap", "numpy savetxt",
    "numpy DataSource", "os remove", "pathlib Path.unlink", "pathlib._local PosixPath.write_text", "pathlib PosixPath.write_text", "posixpath exists", "pwd getpwall", "readline read_init_file", "resource setrlimit",
    "scipy.io loadmat", "shutil move", "sqlite3 connect", "tarfile open", "tempfile NamedTemporaryFile", "tokenize open", "torch from_file", "torch save",
    "torch.utils.tensorboard SummaryWriter", "wave open", "winreg SetValue", "zipfile ZipFile.extractall", "torch UntypedStorage.from_file", "h5py File", "cv2 imwrite",
])
calls("object model", [
    "__builtin__ reduce", "_compat_pickle IMPORT_MAPPING", "_functools reduce", "builtins __build_class__", "builtins delattr", "builtins dict.update", "builtins dir",
    "builtins filter", "builtins globals", "builtins input", "builtins locals", "builtins map", "builtins memoryview", "builtins object.__getattribute__", "builtins open",
    "builtins setattr", "builtins super", "builtins type.mro", "builtins vars", "codecs register", "copyreg add_extension", "copyreg pickle", "gc get_objects",
    "inspect getsource", "itertools imap", "itertools starmap", "operator call", "operator setitem", "os environ.update", "string Formatter", "sys modules",
    "sys _getframe", "torch.serialization load_module_mapping", "types FunctionType", "types MethodType", "types ModuleType", "types new_class", "weakref WeakMethod",
])

# --- Ways of naming and calling ---------------------------------------------------------------------------

WAYS = "ways of naming"
P2, P4 = b"\x80\x02", b"\x80\x04"


def raw(name, pickle, *finds, source=WAYS):
    case(name, source, pickle, *finds)


ID = X + b"\x85"  # a tuple of one text
SYSTEM = ["os.system"]
raw("GLOBAL and REDUCE in protocol 0 without PROTO", b"cos\nsystem\n(S'x'\ntR.", *SYSTEM)
raw("INST", b"(S'x'\nios\nsystem\n.", *SYSTEM)
raw("OBJ", P2 + b"(cos\nsystem\nS'x'\no.", *SYSTEM)
raw("OBJ, popped at once", P4 + b"(" + stacked("smtplib SMTP") + X + b"o0N.", "smtplib.SMTP", source="fickling, GHSA-mxhj-88fx-4pcv")
raw("NEWOBJ", P2 + b"cos\nsystem\n" + ID + b"\x81.", *SYSTEM)
raw("NEWOBJ_EX", P4 + b"cos\nsystem\n" + ID + b"}\x92.", *SYSTEM)
raw("a global that is only named", P4 + stacked("os system") + b".", *SYSTEM)
raw("a global that is named and popped", P4 + stacked("os system") + b"0N.", *SYSTEM)
raw("STACK_GLOBAL without PROTO", b"S'os'\nS'system'\n\x93S'x'\n\x85R.", *SYSTEM, source="picklescan, GHSA-9gvj-pp9x-gcfr")
raw("STRING with hexadecimal and octal escapes", b"S'\\x6f\\163'\nS'\\x73ystem'\n\x93" + ID + b"R.", *SYSTEM)
raw("STRING in double quotes", b'S"os"\nS"system"\n\x93' + ID + b"R.", *SYSTEM)
raw("UNICODE with escapes", b"V\\u006fs\nV\\U00000073ystem\n\x93" + ID + b"R.", *SYSTEM)
raw("SHORT_BINSTRING and BINSTRING", P4 + b"U\x02osT\x06\x00\x00\x00system\x93" + ID + b"R.", *SYSTEM)
raw("BINUNICODE and BINUNICODE8", P4 + text("os", short=False) + b"\x8d\x06\0\0\0\0\0\0\0system\x93" + ID + b"R.", *SYSTEM)
raw("names from the memo by GET", b"S'os'\np0\n0S'system'\np1\n0g0\ng1\n\x93" + ID + b"R.", *SYSTEM)
raw("names from the memo by BINGET", P4 + text("os") + b"q\x050" + text("system") + b"q\x070h\x05h\x07\x93" + ID + b"R.", *SYSTEM)
raw("names from the memo by LONG_BINGET", P4 + text("os") + b"r\0\1\0\x000" + text("system") + b"r\1\1\0\x000j\0\1\0\0j\1\1\0\0\x93" + ID + b"R.", *SYSTEM)
raw("a name that is overwritten in the memo", P4 + text("math") + b"q\x000" + text("os") + b"q\x000" + text("system") + b"\x94" + b"0h\x00h\x01\x93" + ID + b"R.", *SYSTEM)
raw("MEMOIZE counts entries, not indices", P4 + text("safe") + b"q\x050" + text("os") + b"\x94" + b"0" + text("system") + b"\x94" + b"0h\x01h\x02\x93" + ID + b"R.", *SYSTEM)
raw("names by DUP and POP", P4 + text("os") + b"2K\x010" + b"0" + text("system") + b"\x93" + ID + b"R.", *SYSTEM)
raw("names above a mark that POP takes", P4 + text("os") + b"(0" + text("system") + b"\x93" + ID + b"R.", *SYSTEM)
raw("POP_MARK over decoys", P4 + text("os") + b"(" + text("math") + text("sqrt") + b"1" + text("system") + b"\x93" + ID + b"R.", *SYSTEM)
raw("a second PROTO", P4 + P2 + b"cos\nsystem\n" + ID + b"R.", *SYSTEM, source="fickling, test_duplicate_proto")
raw("a PROTO in the middle, which makes dotted names work", b"\x80\x02N0\x80\x04ctorch.serialization\nos.system\n" + ID + b"R.", "torch.serialization.os.system")
raw("behind another pickle", P4 + b"N." + P4 + stacked("os system") + ID + b"R.", *SYSTEM, source="several pickles")
raw("broken behind the call", P4 + stacked("os system") + ID + b"R\xff", *SYSTEM, source="picklescan, malicious-invalid-bytes")
raw("ended behind the call", P4 + stacked("os system") + ID + b"R", *SYSTEM)
raw("a memo entry that was never set behind the call", P4 + stacked("os system") + ID + b"R0h\x63.", *SYSTEM, source="picklescan, keyerror-exploit")
raw("a global of values that are no text behind the call", P4 + stacked("os system") + ID + b"R0K\x2a" + X + b"\x93.", *SYSTEM, source="picklescan, type-confusion-exploit")
raw("a text longer than the file behind the call", b"cbuiltins\nexec\n(" + b"S'x'\n" + b"tRX\xff\xff\xff\x7f.", "builtins.exec", source="picklescan, broken_model")
raw("a frame longer than the file behind the call", P4 + stacked("os system") + ID + b"R0\x95\xff\0\0\0\0\0\0\0N.", *SYSTEM)
raw("arguments that are no literal tuple", P4 + stacked("os system") + call(named("builtins tuple"), b"]" + X + b"a") + b"R.", *SYSTEM)
raw("in the state of an object", P4 + call(named("any Thing")) + b"}" + text("f") + stacked("os system") + b"sb.", *SYSTEM)
raw("as an item of an object", P4 + call(named("collections OrderedDict")) + text("f") + stacked("os system") + b"s.", *SYSTEM)
raw("as the factory of a defaultdict", P4 + call(named("collections defaultdict"), stacked("os getcwd")) + b".", "os.getcwd")
raw("as the function of a tensor subclass", P4 + call(named("torch._tensor _rebuild_from_type_v2"), stacked("os system"), named("torch Tensor"), ID, b"}") + b".", "torch._tensor._rebuild_from_type_v2")
raw("as a backward hook", P2 + call(named("torch._utils _rebuild_parameter"), b"N", b"\x88", call(named("collections OrderedDict")) + b"K\x00" + named("os system") + b"s") + b".", *SYSTEM)
raw("in a persistent id", P2 + b"(" + X + named("os system") + X + b"tQ.", *SYSTEM)
raw("as the class of a persistent module", P2 + b"(" + text("module") + named("os system") + X + b"tQ" + ID + b"R.", *SYSTEM)
raw("in kwargs", P4 + named("any Thing") + b")}" + text("f") + stacked("os system") + b"s\x92.", *SYSTEM)
raw("a key of a dict", P4 + b"}" + stacked("os system") + b"Ns.", *SYSTEM)
raw("a member of a frozenset", P4 + b"(" + stacked("os system") + b"\x91.", *SYSTEM)
raw("an extension code after its registration", P2 + call(named("copyreg add_extension"), text("os"), text("system"), b"K\x01") + b"0\x82\x01" + ID + b"R.", "copyreg.add_extension")
raw("an extension code in the pickle behind the registration", P2 + call(named("copyreg add_extension"), text("os"), text("system"), b"K\x01") + b"." + P2 + b"\x82\x01" + ID + b"R.", "copyreg.add_extension", source="several pickles")
for opcode in (b"\x82\x01", b"\x83\x01\x01", b"\x84\x01\x01\0\0"):
    raw(f"an extension code alone, 0x{opcode[0]:02x}", P2 + opcode + ID + b"R.", source="fickling, test_ext1")
raw("PERSID behind a call", stacked("os system") + ID + b"R0Pid\n.", *SYSTEM)

# Dotted names, and modules that are named as if they were functions.
for path, how in (
    ("torch.serialization os", named), ("torch.serialization os.system", stacked), ("pathlib os.system", stacked), ("random _os.system", stacked),
    ("collections _sys.modules", named), ("collections abc.sys.modules", stacked), ("torch hub.load", stacked), ("torch serialization.load", stacked), ("torch hub", named),
    ("torch _utils._import_dotted_name", stacked), ("numpy f2py.crackfortran.getlincoef", stacked), ("numpy ctypeslib", named), ("concurrent futures.ThreadPoolExecutor", stacked),
    ("torch.hub zipfile.ZipFile", stacked), ("torch.hub urlopen", stacked), ("transformers.utils import_module", stacked), ("any.module Popen", stacked),
    ("any.module subprocess", stacked), ("any.module Thing.__init__.__globals__", stacked), ("any.module Thing.__class__", stacked), ("any.module Thing.__subclasses__", stacked),
    ("collections OrderedDict.__reduce__", stacked), ("builtins int.__add__", stacked), ("any.module methodcaller", named), ("any.module attrgetter", named),
    ("six.moves.builtins eval", named), ("pip._vendor.requests get", named), ("past.builtins execfile", named), ("__main__ eval", named), ("torch.multiprocessing Process", named),
    ("pyspark.cloudpickle loads", named), ("any._vendor.thing run", named), ("any.module " + "a." * 40 + "b", named), ("UserDict _sys.modules", named),
):
    raw(f"the name {dotted(path)[:60]}", P4 + call(how(path), X) + b".", dotted(path))

# Gadgets: what reads, keeps or calls what it is given.
ATTR, ITEM, CALLER = (named(f"operator {name}") for name in ("attrgetter", "itemgetter", "methodcaller"))
GETATTR, PARTIAL, THING = named("builtins getattr"), named("functools partial"), named("any Thing")
raw("attrgetter, called", P4 + call(call(ATTR, text("system")), call(named("builtins __import__"), text("os"))) + b".", "operator.attrgetter", "builtins.__import__",
    source="picklescan, malicious12, GHSA-46h3-79wf-xr6c")
raw("methodcaller, called", P4 + call(named("builtins __import__"), text("os")) + b"q\x000" + call(call(named("_operator methodcaller"), text("system"), X), b"h\x00") + b".",
    "_operator.methodcaller", "builtins.__import__", source="picklescan, fickling, GHSA-955r-x9j8-7rhh")
raw("pydoc.locate and methodcaller", P4 + call(call(CALLER, text("system"), X), call(named("pydoc locate"), text("os"))) + b".", "operator.methodcaller", "pydoc.locate",
    source="picklescan, GHSA-84r2-jw7c-4r5q")
raw("attrgetter of a way out, never called", P4 + call(ATTR, text("a.os.system")) + b".", "operator.attrgetter")
raw("attrgetter, handed to a call", P4 + call(named("any apply"), call(ATTR, text("weight")), THING) + b".", "operator.attrgetter")
raw("itemgetter, called", P4 + call(call(ITEM, text("system")), THING) + b".", "operator.itemgetter")
raw("attrgetter itself, handed to a call", P4 + call(ATTR, text("a")) + b"0" + call(named("any apply"), ATTR, text("a")) + b".", "operator.attrgetter")
raw("getattr of an import", P4 + call(call(GETATTR, call(named("builtins __import__"), text("os")), text("system")), X) + b".", "builtins.__import__",
    source="fickling, GHSA-h4rm-mm56-xf63")
raw("getattr of a library", P4 + call(call(GETATTR, call(stacked("ctypes CDLL"), X), text("system")), X) + b".", "ctypes.CDLL", source="fickling, GHSA-5hvc-6wx8-mvv4")
raw("getattr, called with a lower-case name", P4 + call(call(GETATTR, THING, text("run")), X) + b".", "builtins.getattr")
raw("getattr of a dangerous attribute by name", P4 + call(GETATTR, named("torch Tensor"), text("__class__")) + b".", "builtins.getattr")
raw("getattr down to a module", P4 + call(GETATTR, THING, text("os")) + b".", "builtins.getattr")
raw("getattr of a getattr, down to a function", P4 + call(GETATTR, call(GETATTR, named("any module"), text("zipfile")), text("ZipFile")) + b".", "builtins.getattr")
raw("getattr of a module's function", P4 + call(GETATTR, named("torch hub"), text("load")) + b".", "builtins.getattr")
raw("getattr by a name that is computed", P4 + call(GETATTR, THING, call(named("builtins str"), text("run"))) + b".", "builtins.getattr")
raw("getattr itself, handed to a call after a harmless use", P4 + call(GETATTR, THING, text("Nested")) + b"0" + call(named("any apply"), GETATTR, THING, text("run")) + b".", "builtins.getattr")
raw("getattr itself, in a list of arguments", P4 + call(GETATTR, THING, text("Nested")) + b"0" + call(named("any apply"), b"]" + GETATTR + b"a") + b".", "builtins.getattr")
raw("getattr itself, in the state of a partial", P4 + call(GETATTR, THING, text("Nested")) + b"0" + call(PARTIAL, THING) + b"(" + GETATTR + b")NNtb.", "functools.partial")
raw("partial of a dangerous function", P4 + call(PARTIAL, named("torch load"), X) + b".", "functools.partial", "torch.load", source="picklescan, malicious19")
raw("partial, called", P4 + call(call(PARTIAL, THING), X) + b".", "functools.partial")
raw("partial with another function in its state", P4 + call(PARTIAL, THING) + b"(" + stacked("os system") + ID + b"}Ntb.", *SYSTEM)
raw("partial itself, handed to a call", P4 + call(PARTIAL, THING) + b"0" + call(named("any apply"), PARTIAL) + b".", "functools.partial")
raw("reduce of anything but a union of types", P4 + call(named("functools reduce"), GETATTR, b"]" + THING + b"a" + text("run") + b"a") + b".", "functools.reduce")
raw("type with three arguments", P4 + call(named("builtins type"), X, b")", b"}") + b".", "builtins.type")
raw("type, called for a class that is called", P4 + call(call(named("builtins type"), THING), X) + b".", "builtins.type")
raw("map over getters", P4 + call(named("builtins list"), call(named("builtins map"), call(ATTR, text("weight")), b"]" + THING + b"a")) + b".", "builtins.map", "operator.attrgetter")
raw("a registry of unpickling is changed", P4 + call(named("builtins dict.update"), named("torch.serialization load_module_mapping"), b"}" + text("any") + text("os") + b"s") + b"0" + call(named("any system"), X) + b".",
    "builtins.dict.update")
raw("a module gets a state", P2 + named("torch serialization") + b"}" + text("load_module_mapping", short=False) + b"}sb0N.", "torch.serialization", source="picklescan, sys_module_override_sploit")
raw("a module is got by getattr and gets a state", P4 + call(GETATTR, named("torch nn"), text("functools")) + b"}b.", "builtins.getattr")
raw("fromlist: a function and its code", P4 + call(call(named("types FunctionType"), call(named("marshal loads"), b"C\x01x"), b"}")) + b".", "marshal.loads", "types.FunctionType",
    source="fickling, GHSA-565g-hwwr-4pp3")
raw("names put together by a method of a text", P4 + call(call(GETATTR, text(""), text("join")), b"]" + X + b"a") + b".", source="fickling, test_stack_global_dynamic_import")
NESTED = P4 + stacked("os system") + ID + b"R."
raw("a nested pickle in the bytes of torch.load", P4 + call(named("torch.storage _load_from_bytes"), b"C" + bytes([len(NESTED)]) + NESTED) + b".", "torch.storage._load_from_bytes", source="fickling, test_unpickler")

# Names that are computed: there is no telling what they are.
for name, module, attribute in (
    ("str of a text", call(named("builtins str"), text("os")), text("system")),
    ("decoded bytes", text("os"), call(named("_codecs decode"), b"C\x06system")),
    ("a getter's text", text("os"), call(call(ITEM, b"K\x00"), b"]" + text("system") + b"a")),
):
    raw(f"a global named by {name}", P4 + module + attribute + b"\x93" + ID + b"R.", source="computed, picklescan, fickling")

# Frames that are no frames: Python's file reader goes on elsewhere than a scanner does.
HIDDEN = b"cos\nsystem\n" + ID + b"R"
for name, body, length in (
    ("BINBYTES", b"B\x14\0\0\0" + b"A" * 20, 5), ("SHORT_BINUNICODE", b"\x8c\x14" + b"A" * 20, 3), ("UNICODE", b"Vhello world\n", 5), ("BININT", b"J\x07\0\0\0", 2),
    ("BINBYTES over a call", b"B\x20\0\0\0" + HIDDEN.ljust(0x20, b"N"), 2),
):
    raw(f"{name} that crosses its frame's end", b"\x80\x05\x95" + struct.pack("<Q", length) + body + b".", source="frames, fickling, test_frame_boundary_divergence, cpython issue 154848")
raw("a frame inside a frame", b"\x80\x05\x95" + struct.pack("<Q", 30) + b"N\x95" + struct.pack("<Q", 2) + b"N." + b"N" * 20, source="frames, fickling, cpython issue 154848")
for length, line in ((4, b"cmacos\nsystem\n"), (7, b"cos\nsystem\n")):
    raw(f"GLOBAL that crosses a frame of {length}", b"\x80\x05\x95" + struct.pack("<Q", length) + line + ID + b"R.", source="frames, fickling, cpython issue 154848")

# Scanners that look for names alone call these dangerous, too. Unpickling runs nothing that is named there,
# or only what a package of nobody here has.
MILDER = {
    "clean": {
        "a global that is only named", "a global that is named and popped", "as an item of an object", "a key of a dict",
        "a member of a frozenset", "call functools.partial",
        "getattr of a dangerous attribute by name",
    },
    "unknown": {
        "getattr down to a module", "in the state of an object", "in kwargs", "the name any.module.subprocess", "attrgetter, handed to a call", "partial, called",
        "attrgetter itself, handed to a call", "getattr, called with a lower-case name", "partial itself, handed to a call",
        "getattr itself, handed to a call after a harmless use", "getattr itself, in a list of arguments",
        "as the factory of a defaultdict", "attrgetter of a way out, never called", "partial of a dangerous function", "partial with another function in its state",
    },
}

if __name__ == "__main__":
    for row in CASES:
        milder = [verdict for verdict, names in MILDER.items() if row["name"] in names]
        row["verdict"] = milder[0] if milder else "dangerous"
        row["finds"] = [] if milder else row["finds"]
    merged = {}
    for row in CASES:  # both suites have some calls
        known = merged.setdefault((row["name"], row["pickle"]), row)
        if known is not row and row["source"] not in known["source"]:
            known["source"] += f", {row['source']}"
    rows = ",\n".join(json.dumps(row) for row in merged.values())
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(f"[\n{rows}\n]\n")
    (OUT.parent / "README.md").write_text(README)
    print(f"{len(merged)} cases, {OUT.stat().st_size} bytes")
