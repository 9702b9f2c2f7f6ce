//! The one table of (module, name) → meaning.

use crate::dtype::Dtype;
use crate::pickle::{Global, Graph, Object, Value, ValueId};
use crate::verdict::python3;

/// What a global that torch's own pickles use stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// A typed or untyped storage class.
    Storage(StorageClass),
    /// A dtype object.
    Dtype(Element),
    /// `torch._utils._rebuild_tensor`, `_rebuild_tensor_v2`: storage, offset, size, stride, ….
    RebuildTensor,
    /// `_rebuild_tensor_v3`: as v2, with the dtype as seventh argument.
    RebuildTensorV3,
    /// `_rebuild_parameter`, `_rebuild_parameter_with_state`: the tensor is the first argument.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`: function, type, its arguments, state.
    RebuildFromType,
    /// `_rebuild_device_tensor_from_numpy`, `_rebuild_xla_tensor`, `_rebuild_device_tensor_from_cpu_tensor`:
    /// data, dtype, device, requires_grad.
    RebuildOnDevice,
    /// `_rebuild_wrapper_subclass`: class, dtype, size, stride, …; the data is in the state.
    RebuildWrapper,
    /// A tensor class itself, as before 0.4: the data is in the state or in the first argument.
    TensorClass,
    /// numpy's `_reconstruct`: the data is in the state.
    NumpyArray,
    /// numpy's `_frombuffer`: buffer, dtype, shape, order, ….
    NumpyBuffer,
    /// numpy's `scalar`: dtype, bytes.
    NumpyScalar,
    /// Functions of the C++ pickler that only say a type: the value is the first argument.
    SeeThrough,
    /// A rebuild function whose result has no dense data that could be written.
    NoDenseTensor(&'static str),
    /// `collections.OrderedDict`, `defaultdict` and `Counter`: mappings whose items are set, or given at
    /// construction.
    DictSubclass,
}

/// The element type of a storage or a v3 tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// One that safetensors has.
    Known(Dtype),
    /// One that safetensors has no name for: torch name, bytes per element.
    Foreign(&'static str, u64),
}

impl Meaning {
    /// Whether what is made by it is a tensor, or stands for one that cannot be read.
    pub fn is_tensor(self) -> bool {
        match self {
            Meaning::RebuildTensor
            | Meaning::RebuildTensorV3
            | Meaning::RebuildParameter
            | Meaning::RebuildFromType
            | Meaning::RebuildOnDevice
            | Meaning::RebuildWrapper
            | Meaning::TensorClass
            | Meaning::NumpyArray
            | Meaning::NumpyBuffer
            | Meaning::NoDenseTensor(_) => true,
            Meaning::Storage(_)
            | Meaning::Dtype(_)
            | Meaning::NumpyScalar
            | Meaning::SeeThrough
            | Meaning::DictSubclass => false,
        }
    }
}

impl Element {
    /// Bytes of one element.
    pub fn size(self) -> u64 {
        match self {
            Element::Known(dtype) => dtype.size(),
            Element::Foreign(_, size) => size,
        }
    }
}

/// What class a storage was saved as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageClass {
    /// `torch.FloatStorage` and its like: counted in elements.
    Typed(Element),
    /// `torch.storage.UntypedStorage`: counted in bytes.
    Untyped,
}

impl StorageClass {
    /// The storage class that a global names.
    pub fn of(global: &Global) -> Option<StorageClass> {
        match meaning(global) {
            Some(Meaning::Storage(class)) => Some(class),
            _ => None,
        }
    }

    /// Bytes per counted unit.
    pub fn unit(self) -> u64 {
        match self {
            StorageClass::Typed(element) => element.size(),
            StorageClass::Untyped => 1,
        }
    }
}

/// Dtypes that torch saves and safetensors cannot name (format: torch/storage.py, c10/core/ScalarType.h).
const FOREIGN: &[(&str, u64)] = &[
    ("complex128", 16),
    ("complex32", 4),
    ("bcomplex32", 4),
    ("qint8", 1),
    ("quint8", 1),
    ("qint32", 4),
    ("quint4x2", 1),
    ("quint2x4", 1),
    ("bits8", 1),
    ("bits16", 2),
    ("bits1x8", 1),
    ("bits2x4", 1),
    ("bits4x2", 1),
];

/// The element type of that name in the `torch` module.
fn element(name: &str) -> Option<Element> {
    let name = match name {
        "half" => "float16",
        "float" => "float32",
        "double" => "float64",
        "long" => "int64",
        "int" => "int32",
        "short" => "int16",
        "cfloat" => "complex64",
        "cdouble" => "complex128",
        "chalf" => "complex32",
        name => name,
    };
    Dtype::from_torch_name(name)
        .map(Element::Known)
        .or_else(|| {
            let (name, size) = FOREIGN.iter().find(|(foreign, _)| *foreign == name)?;
            Some(Element::Foreign(name, *size))
        })
}

/// Storage class names, of which torch keys on the name alone (`torch/serialization.py`, `StorageType`).
const STORAGE_CLASSES: &[(&str, &str)] = &[
    ("DoubleStorage", "float64"),
    ("FloatStorage", "float32"),
    ("HalfStorage", "float16"),
    ("BFloat16Storage", "bfloat16"),
    ("LongStorage", "int64"),
    ("IntStorage", "int32"),
    ("ShortStorage", "int16"),
    ("CharStorage", "int8"),
    ("ByteStorage", "uint8"),
    ("BoolStorage", "bool"),
    ("ComplexFloatStorage", "complex64"),
    ("ComplexDoubleStorage", "complex128"),
    ("QInt8Storage", "qint8"),
    ("QUInt8Storage", "quint8"),
    ("QInt32Storage", "qint32"),
    ("QUInt4x2Storage", "quint4x2"),
    ("QUInt2x4Storage", "quint2x4"),
    // Names that only the C++ pickler writes: <ScalarType>Storage.
    ("ComplexHalfStorage", "complex32"),
    ("UInt16Storage", "uint16"),
    ("UInt32Storage", "uint32"),
    ("UInt64Storage", "uint64"),
    ("Float8_e5m2Storage", "float8_e5m2"),
    ("Float8_e4m3fnStorage", "float8_e4m3fn"),
    ("Float8_e5m2fnuzStorage", "float8_e5m2fnuz"),
    ("Float8_e4m3fnuzStorage", "float8_e4m3fnuz"),
    ("Float8_e8m0fnuStorage", "float8_e8m0fnu"),
    ("Float4_e2m1fn_x2Storage", "float4_e2m1fn_x2"),
];

fn storage_class(name: &str) -> Option<StorageClass> {
    if matches!(name, "UntypedStorage" | "_UntypedStorage") {
        return Some(StorageClass::Untyped);
    }
    let (_, dtype) = STORAGE_CLASSES.iter().find(|(class, _)| *class == name)?;
    element(dtype).map(StorageClass::Typed)
}

/// What the C++ pickler wraps values in (torch/jit/_pickle.py).
const SEE_THROUGH: &[&str] = &[
    "build_boollist",
    "build_doublelist",
    "build_intlist",
    "build_tensorlist",
    "restore_type_tag",
];

const REBUILD: &[(&str, Meaning)] = {
    use Meaning::*;
    &[
        ("_rebuild_tensor", RebuildTensor),
        ("_rebuild_tensor_v2", RebuildTensor),
        ("_rebuild_tensor_v3", RebuildTensorV3),
        ("_rebuild_parameter", RebuildParameter),
        ("_rebuild_parameter_with_state", RebuildParameter),
        ("_rebuild_sparse_tensor", NoDenseTensor("a sparse tensor")),
        (
            "_rebuild_sparse_csr_tensor",
            NoDenseTensor("a sparse tensor"),
        ),
        ("_rebuild_qtensor", NoDenseTensor("a quantized tensor")),
        ("_rebuild_nested_tensor", NoDenseTensor("a nested tensor")),
        (
            "_rebuild_meta_tensor_no_storage",
            NoDenseTensor("a meta tensor, which has no data"),
        ),
        ("_rebuild_wrapper_subclass", RebuildWrapper),
        ("_rebuild_device_tensor_from_cpu_tensor", RebuildOnDevice),
        ("_rebuild_device_tensor_from_numpy", RebuildOnDevice),
        ("_rebuild_xla_tensor", RebuildOnDevice),
    ]
};

/// `torch.FloatTensor` and its like, `torch.Tensor` (torch/_tensor.py, `__setstate__`).
fn is_tensor_class(name: &str) -> bool {
    let kind = name.strip_suffix("Tensor");
    kind.is_some_and(|kind| {
        let storage = |(class, _): &(&str, &str)| class.strip_suffix("Storage") == Some(kind);
        kind.is_empty() || STORAGE_CLASSES.iter().any(storage)
    })
}

/// The value behind functions that only say its type.
pub fn see_through(graph: &Graph, id: ValueId) -> ValueId {
    let inner = |id: ValueId| match graph.get(id) {
        Value::Object(object) => {
            let meaning = meaning_of(graph, object)?;
            let first = graph.tuple(object.args)?.first();
            first.copied().filter(|_| meaning == Meaning::SeeThrough)
        }
        _ => None,
    };
    let mut id = id;
    // A value inside itself would lead round and round.
    for _ in 0..16 {
        match inner(id) {
            Some(next) => id = next,
            None => break,
        }
    }
    id
}

/// What the global that an object calls means to us.
pub fn meaning_of(graph: &Graph, object: &Object) -> Option<Meaning> {
    meaning(graph.global(object.callable)?)
}

/// What the global means to us; `None` when it is not in the table.
pub fn meaning(global: &Global) -> Option<Meaning> {
    let (module, name) = python3(&global.module, &global.name);
    let listed = |table: &[(&str, Meaning)]| {
        let row = table.iter().find(|(known, _)| *known == name)?;
        Some(row.1)
    };
    match module {
        "torch._utils" => listed(REBUILD),
        "torch._tensor" if matches!(name, "_rebuild_from_type_v2" | "_rebuild_from_type") => {
            Some(Meaning::RebuildFromType)
        }
        "torch.nested._internal.nested_tensor" if name == "_rebuild_njt" => {
            Some(Meaning::NoDenseTensor("a nested tensor"))
        }
        "numpy.core.multiarray" | "numpy._core.multiarray" if name == "_reconstruct" => {
            Some(Meaning::NumpyArray)
        }
        "numpy.core.multiarray" | "numpy._core.multiarray" if name == "scalar" => {
            Some(Meaning::NumpyScalar)
        }
        "numpy.core.numeric" | "numpy._core.numeric" if name == "_frombuffer" => {
            Some(Meaning::NumpyBuffer)
        }
        // Its `__new__` without data, which the state gives it.
        "numpy" if name == "ndarray" => Some(Meaning::NumpyArray),
        "torch.nn.parameter" if matches!(name, "Parameter" | "Buffer") => {
            Some(Meaning::TensorClass)
        }
        "torch.autograd.variable" if name == "Variable" => Some(Meaning::TensorClass),
        "torch" | "torch.cuda" if is_tensor_class(name) => Some(Meaning::TensorClass),
        "torch.jit._pickle" if SEE_THROUGH.contains(&name) => Some(Meaning::SeeThrough),
        "collections" if matches!(name, "OrderedDict" | "defaultdict" | "Counter") => {
            Some(Meaning::DictSubclass)
        }
        "torch" | "torch.cuda" | "torch.storage" => storage_class(name)
            .map(Meaning::Storage)
            .or_else(|| element(name).map(Meaning::Dtype)),
        _ => None,
    }
}
