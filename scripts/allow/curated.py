"""Names that were read one by one: what is called, and plain values.

A kind is a title, the reason, and lines `FLAGS MODULE NAME...`. What pickles of different versions name in different
places stands in each.
"""

KINDS = [
    ("builtins", "make a value of Python's own from their arguments", """
        c builtins bool bytearray bytes complex dict float frozenset int list object range set slice str tuple
        v builtins Ellipsis NotImplemented None True False
        n builtins object dict list set
        N builtins bytearray bytes complex float frozenset int str tuple
    """),
    ("iterators", "walk over their arguments; code that walks over one runs the methods of what is below it", """
        ct builtins enumerate iter reversed zip
        c itertools count repeat
    """),
    ("exceptions", "keep their arguments", """
    """),
    ("collections", "containers; defaultdict keeps its factory when it is given nothing else", """
        cnsd collections Counter OrderedDict
        cinsd collections defaultdict
        cnsa collections deque
    """),
    ("pickle's helpers", "judged by their arguments", """
        c copyreg __newobj__ __newobj_ex__ _reconstructor
        c _codecs encode
    """),
    ("dates", "numbers and time zones by offset", """
        c datetime date datetime time timedelta timezone
    """),
    ("numbers", "parse text or keep integers", """
        c decimal Decimal
        c fractions Fraction
        ct uuid UUID
        c ipaddress IPv4Address IPv4Interface IPv4Network IPv6Address IPv6Interface IPv6Network
    """),
    ("paths", "join and split text; nothing is looked up in a file system", """
        c pathlib Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath
        c pathlib._local Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath
    """),
    ("patterns", "compiles a regular expression, which nothing matches", """
        c re _compile
    """),
    ("arrays of Python", "copy bytes or numbers", """
        c array _array_reconstructor array
    """),
    ("records", "store attributes", """
        cs types SimpleNamespace
        c contextlib nullcontext
        ct inspect Parameter Signature
        v inspect _empty
    """),
    ("buffers", "copy their bytes; the state has attributes too", """
        ct _io BytesIO StringIO
        N _io BytesIO StringIO
    """),
    ("stored calls", "keep a callable and its arguments, which the state may replace", """
        cis functools partial
    """),
    ("dicts with attributes", "an item may be what a BUILD or an append would call, so they get neither", """
        ndx lightning.fabric.utilities.data AttributeDict
        ndx lightning.pytorch.utilities.parsing AttributeDict
        ndx lightning_fabric.utilities.data AttributeDict
        ndx pytorch_lightning.utilities.parsing AttributeDict
    """),
    ("getters", "get attributes, items and methods of what they are called with", """
        cx operator attrgetter itemgetter methodcaller
    """),
    ("types", "parameters of types; a text in their place is parsed and not run", """
        c _operator getitem or_
        c operator getitem or_
        cx types GenericAlias
    """),
    ("random numbers", "fills the generator's integers", """
        ct random Random
    """),
    ("time zones", "reads a file of the time zone data base, which the name cannot leave", """
        c zoneinfo ZoneInfo._unpickle
    """),
    ("loggers", "makes an entry in logging's table of names", """
        cx logging getLogger
    """),
    ("tensors", "make a tensor from a storage or another tensor; hooks are kept for a backward pass", """
        ct torch._utils _rebuild_device_tensor_from_cpu_tensor _rebuild_device_tensor_from_numpy
        ct torch._utils _rebuild_meta_tensor_no_storage _rebuild_nested_tensor _rebuild_parameter
        ct torch._utils _rebuild_parameter_with_state _rebuild_qtensor _rebuild_sparse_csr_tensor
        ct torch._utils _rebuild_sparse_tensor _rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3
        ct torch._utils _rebuild_wrapper_subclass _rebuild_xla_tensor
        ct torch._tensor _rebuild_from_type _rebuild_from_type_v2
        ct torch.tensor _rebuild_from_type
        ct torch.nested._internal.nested_tensor _rebuild_njt
    """),
    ("tensor classes", "older files call them with a size or numbers", """
        ctwN torch Tensor
        ctwN torch.nn.parameter Buffer Parameter UninitializedBuffer UninitializedParameter
        ctN torch.autograd.variable Variable
        ctw torch.nn Buffer Parameter UninitializedBuffer UninitializedParameter
        ctN torch BFloat16Tensor BoolTensor ByteTensor CharTensor DoubleTensor FloatTensor HalfTensor IntTensor
        ctN torch LongTensor ShortTensor
        ctN torch.cuda BFloat16Tensor BoolTensor ByteTensor CharTensor DoubleTensor FloatTensor HalfTensor IntTensor
        ctN torch.cuda LongTensor ShortTensor
        ctN torch.sparse BFloat16Tensor ByteTensor CharTensor DoubleTensor FloatTensor HalfTensor IntTensor LongTensor
        ctN torch.sparse ShortTensor
        ctN torch.cuda.sparse BFloat16Tensor ByteTensor CharTensor DoubleTensor FloatTensor HalfTensor IntTensor
        ctN torch.cuda.sparse LongTensor ShortTensor
    """),
    ("tensor subclasses", "wrap tensors, whose class is all that their methods look at", """
        tw torch.distributed.tensor DTensor
        tw torch.distributed.tensor._api DTensor
        tw torch.distributed._tensor.api DTensor
        tw torch.nested._internal.nested_tensor NestedTensor
        tw torch.nested._internal.nested_tensor.NestedTensor
        w torchvision.tv_tensors._image Image
        w torchvision.tv_tensors._mask Mask
        w torchvision.tv_tensors._video Video
        w torchvision.tv_tensors._bounding_boxes BoundingBoxes
    """),
    ("placements", "keep a dimension or the name of an operation", """
        nt torch.distributed.tensor.placement_types Partial Replicate Shard _StridedShard
    """),
    ("compiled modules", "torch.compile's wrappers: they prepare the call that compiles, and do not call", """
        c torch._dynamo.eval_frame OptimizedModule
        cs torch._dynamo.eval_frame OptimizeContext
        xns torch._dynamo.convert_frame CatchErrorsWrapper ConvertFrame ConvertFrameAssert ConvertFrameBox
        xns torch._dynamo.repro.after_dynamo WrapBackendDebug
        xns torch _TorchCompileInductorWrapper _TorchCompileWrapper
    """),
    ("classes of torch's functions", "pickles name torch.relu as an attribute of one of them", """
        v torch._C TensorBase _TensorBase _VariableFunctionsClass
    """),
    ("storages", "persistent ids name them", """
        v torch BFloat16Storage BoolStorage ByteStorage CharStorage ComplexDoubleStorage ComplexFloatStorage
        v torch DoubleStorage FloatStorage HalfStorage IntStorage LongStorage QInt32Storage QInt8Storage
        v torch QUInt2x4Storage QUInt4x2Storage QUInt8Storage ShortStorage Storage TypedStorage UntypedStorage
        v torch.cuda BFloat16Storage BoolStorage ByteStorage CharStorage ComplexDoubleStorage ComplexFloatStorage
        v torch.cuda DoubleStorage FloatStorage HalfStorage IntStorage LongStorage ShortStorage
        v torch.storage TypedStorage UntypedStorage _TypedStorage _UntypedStorage
    """),
    ("modules of torch 0.4 and 1.0", "hold the result of this function, which does nothing any more", """
        c torch.nn.backends.thnn _get_thnn_function_backend
    """),
    ("packed weights", "hand their state to a C++ class, which packs tensors for an operator", """
        Nt torch ScriptObject
    """),
    ("torch's small values", "keep numbers and names", """
        c torch Size device
        ct torch Generator
        ct torch._C Generator
        c torch.serialization _get_layout
    """),
    ("TorchScript's lists", "return their first argument", """
        c torch.jit._pickle build_boollist build_doublelist build_intlist build_tensor_from_id build_tensorlist
        c torch.jit._pickle restore_type_tag
    """),
    ("numpy's arrays", "make arrays and scalars from bytes, shapes and dtypes", """
        ct numpy dtype ndarray
        ct numpy.core.multiarray _reconstruct
        ct numpy._core.multiarray _reconstruct
        c numpy.core.multiarray scalar
        c numpy._core.multiarray scalar
        c numpy.core.numeric _frombuffer
        c numpy._core.numeric _frombuffer
        ct numpy.ma.core MaskedArray _mareconstruct
        ct numpy.ma MaskedArray
        tv numpy matrix recarray record
        tv numpy.matrixlib.defmatrix matrix
        tv numpy.rec recarray record
        tv numpy.core.records recarray record
    """),
    ("numpy's random generators", "make a generator by its name; the state is numbers", """
        ct numpy.random __RandomState_ctor
        ct numpy.random._pickle __bit_generator_ctor __generator_ctor __randomstate_ctor
        ct numpy.random._mt19937 MT19937
        ct numpy.random._pcg64 PCG64 PCG64DXSM
        ct numpy.random._philox Philox
        ct numpy.random._sfc64 SFC64
        ct numpy.random._generator Generator
        ct numpy.random.mtrand RandomState
        ct numpy.random.bit_generator SeedSequence __pyx_unpickle_SeedSequence
    """),
]

# What only the C++ pickler of TorchScript writes: `torch` has no such names.
INVENTED = [f"{dtype}Storage" for dtype in (
    "ComplexHalf", "UInt16", "UInt32", "UInt64", "Float8_e5m2", "Float8_e4m3fn", "Float8_e5m2fnuz", "Float8_e4m3fnuz",
    "Float8_e8m0fnu", "Float4_e2m1fn_x2")]

# Classes of C++ that TorchScript and torch.ScriptObject make by name, whose __setstate__ packs tensors. aten.OpaqueObject
# is none of them: it unpickles its state.
PACKED = {
    "mkldnn": "ConvOpContext", "rnn": "CellParamsBase", "sparse": "LinearPackedParamsBase",
    "quantized": "Conv2dPackedParamsBase Conv3dPackedParamsBase EmbeddingPackedParamsBase LinearPackedParamsBase",
}
SCRIPT = {(f"__torch__.torch.classes.{space}", name) for space, names in PACKED.items() for name in names.split()}

# Names of torch 1.5 to 1.12, of which no environment is made, read in PyTorch's repository; and those of nowhere.
OLDER = {("torch.storage", "_TypedStorage"), ("torch.storage", "_UntypedStorage"),
         ("torch.tensor", "_rebuild_from_type")} | {("torch", name) for name in INVENTED} | SCRIPT

# Where classes were defined before they moved, by where they are now; the old modules still have them.
MOVED = {
    "torch.ao.nn.intrinsic": "torch.nn.intrinsic",
    "torch.ao.nn.qat": "torch.nn.qat",
    "torch.ao.nn.quantizable": "torch.nn.quantizable",
    "torch.ao.nn.quantized": "torch.nn.quantized",
    "torch.ao.quantization": "torch.quantization",
    **{f"scipy.sparse._{kind}": f"scipy.sparse.{kind}" for kind in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")},
}

# (module, names by a rule, flags, kind): resolved by collect.py in each environment.
RULES = [
    ("torch", "values", "v", "torch's small values"),
    ("typing", "typing", "v", "types"),
    ("numpy", "scalars", "c", "numpy's scalars"),
    ("numpy.dtypes", "dtypes", "c", "numpy's dtypes"),
]
RULE_REASONS = {
    "numpy's scalars": "make a number, text or bytes",
    "numpy's dtypes": "make a dtype",
}

# Classes of the standard library that are listed when check.py lets them pass; all others are no plain data.
CHECKED = {
    ("argparse", "Namespace"), ("calendar", "Calendar"), ("calendar", "HTMLCalendar"), ("calendar", "TextCalendar"),
    ("collections", "ChainMap"), ("collections", "UserDict"), ("collections", "UserList"),
    ("collections", "UserString"), ("contextlib", "nullcontext"), ("string", "Template"), ("uuid", "UUID"),
}


def entries():
    """(module, name) → (flags, kind); flags of several lines add up."""
    found = {}
    for kind, _, text in KINDS:
        for line in text.split("\n"):
            words = line.split()
            if not words:
                continue
            for name in words[2:]:
                flags = found.get((words[1], name), ("", kind))[0]
                found[words[1], name] = ("".join(dict.fromkeys(flags + words[0])), kind)
    return found


NAMES = {**entries(), **{("torch", name): ("v", "storages") for name in INVENTED},
         **{key: ("Nt", "packed weights") for key in SCRIPT}}
