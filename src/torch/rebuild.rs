//! Rebuild functions → [`TensorInfo`].

use super::globals::{self, Element, Meaning, StorageClass};
use super::storage::{BadStorage, Storage, Storages};
use super::tensor::{Geometry, TensorInfo};
use crate::error::ErrorKind;
use crate::pickle::{Graph, Object, Value, ValueId};

/// A tensor as far as it can be had.
#[derive(Debug, Clone)]
pub enum Leaf {
    /// A dense tensor that safetensors can hold.
    Tensor(TensorInfo),
    /// A tensor that cannot be written.
    Refused(Refusal),
}

impl Leaf {
    /// The size of the tensor's elements in bytes; 0 when it cannot be written.
    pub fn bytes(&self) -> u64 {
        match self {
            Leaf::Tensor(info) => info.bytes(),
            Leaf::Refused(_) => 0,
        }
    }
}

/// Why a tensor cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// [`Corrupt`](ErrorKind::Corrupt) or [`Unsupported`](ErrorKind::Unsupported).
    pub kind: ErrorKind,
    /// Completes a sentence that starts with the name.
    pub reason: String,
}

impl Refusal {
    /// A sound value that safetensors cannot hold.
    pub fn unsupported(reason: impl Into<String>) -> Refusal {
        Refusal {
            kind: ErrorKind::Unsupported,
            reason: reason.into(),
        }
    }

    fn corrupt(reason: impl Into<String>) -> Refusal {
        Refusal {
            kind: ErrorKind::Corrupt,
            reason: reason.into(),
        }
    }
}

/// Wrapping functions nest at most a few deep: a parameter of a subclass of a tensor.
const MAX_WRAPPERS: usize = 16;

/// Reads tensors out of a graph and collects the storages that they name.
pub struct Reader<'g> {
    graph: &'g Graph,
    storages: Storages,
}

impl<'g> Reader<'g> {
    /// A reader of `graph`.
    pub fn new(graph: &'g Graph) -> Reader<'g> {
        Reader {
            graph,
            storages: Storages::default(),
        }
    }

    /// The storages that were named, by [`StorageId`](super::StorageId).
    pub fn into_storages(self) -> Vec<Storage> {
        self.storages.into_list()
    }

    /// The tensor that `id` is; `None` when it is something else.
    pub fn tensor(&mut self, id: ValueId) -> Option<Leaf> {
        let graph = self.graph;
        let mut id = id;
        for _ in 0..MAX_WRAPPERS {
            let object = match graph.get(id) {
                Value::Object(object) => object,
                Value::Persistent(_) => {
                    let reason = "is a storage without a tensor around it";
                    return Some(Leaf::Refused(Refusal::unsupported(reason)));
                }
                _ => return None,
            };
            let (function, args) = match self.call(object)? {
                (Meaning::RebuildFromType, args) => match self.unwrap_type(args) {
                    Some(call) => call,
                    None => return refused("has a _rebuild_from_type_v2 call of another form"),
                },
                call => call,
            };
            match (function, args) {
                (Meaning::RebuildParameter, [tensor, ..]) => id = *tensor,
                (Meaning::RebuildTensor, [storage, offset, size, stride, rest @ ..]) => {
                    let geometry = [*offset, *size, *stride];
                    let metadata = rest.get(2).copied();
                    return Some(self.dense(*storage, geometry, None, metadata));
                }
                (
                    Meaning::RebuildTensorV3,
                    [storage, offset, size, stride, _, _, dtype, rest @ ..],
                ) => {
                    let geometry = [*offset, *size, *stride];
                    let metadata = rest.first().copied();
                    return Some(self.dense(*storage, geometry, Some(*dtype), metadata));
                }
                (Meaning::NoDenseTensor(kind), _) => {
                    let kind = self.refine(kind, args);
                    return Some(Leaf::Refused(Refusal::unsupported(format!("is {kind}"))));
                }
                (
                    Meaning::RebuildParameter | Meaning::RebuildTensor | Meaning::RebuildTensorV3,
                    _,
                ) => return refused("is rebuilt from too few arguments"),
                _ => return None,
            }
        }
        refused("is wrapped too many times")
    }

    /// What an object calls, and with what, if its callable is in the table.
    fn call(&self, object: &'g Object) -> Option<(Meaning, &'g [ValueId])> {
        let meaning = globals::meaning(self.graph.global(object.callable)?)?;
        Some((meaning, self.graph.tuple(object.args)?))
    }

    /// `_rebuild_from_type_v2(func, type, args, state)`: the state holds attributes, not data.
    fn unwrap_type(&self, args: &'g [ValueId]) -> Option<(Meaning, &'g [ValueId])> {
        let [function, _, inner, ..] = args else {
            return None;
        };
        let meaning = globals::meaning(self.graph.global(*function)?)?;
        Some((meaning, self.graph.tuple(*inner)?))
    }

    /// Sparse tensors name their layout in the first argument.
    fn refine(&self, kind: &str, args: &[ValueId]) -> String {
        let layout = args.first().and_then(|id| match self.graph.get(*id) {
            Value::Object(object) => self.graph.tuple(object.args)?.first(),
            _ => None,
        });
        match layout.and_then(|id| self.graph.str(*id)) {
            Some(layout) => format!("{kind} ({layout})"),
            None => kind.to_owned(),
        }
    }

    fn dense(
        &mut self,
        storage: ValueId,
        [offset, size, stride]: [ValueId; 3],
        dtype: Option<ValueId>,
        metadata: Option<ValueId>,
    ) -> Leaf {
        match self.try_dense(storage, [offset, size, stride], dtype, metadata) {
            Ok(info) => Leaf::Tensor(info),
            Err(refusal) => Leaf::Refused(refusal),
        }
    }

    fn try_dense(
        &mut self,
        storage: ValueId,
        [offset, size, stride]: [ValueId; 3],
        dtype: Option<ValueId>,
        metadata: Option<ValueId>,
    ) -> Result<TensorInfo, Refusal> {
        let graph = self.graph;
        let id = self
            .storages
            .intern(graph, storage)
            .map_err(|bad| match bad {
                BadStorage::Meta => Refusal::unsupported("is a meta tensor, which has no data"),
                BadStorage::Malformed(what) => {
                    Refusal::corrupt(format!("is corrupt: its storage {what}"))
                }
            })?;
        let Some(stored) = self.storages.get(id) else {
            return Err(Refusal::corrupt("has no storage"));
        };
        let element = match (stored.class, dtype) {
            (StorageClass::Typed(element), None) => element,
            (_, Some(dtype)) => match graph.global(dtype).and_then(globals::meaning) {
                Some(Meaning::Dtype(element)) => element,
                _ => return Err(Refusal::unsupported("has a dtype that is not known")),
            },
            (StorageClass::Untyped, None) => {
                return Err(Refusal::corrupt("has an untyped storage and no dtype"));
            }
        };
        let dtype = match element {
            Element::Known(dtype) => dtype,
            Element::Foreign(name, _) => {
                return Err(Refusal::unsupported(format!(
                    "is of dtype {name}, which safetensors does not have"
                )));
            }
        };

        let sizes = |id, what: &str| {
            self.sizes(id)
                .ok_or_else(|| Refusal::corrupt(format!("has {what} that are no valid sizes")))
        };
        let geometry = Geometry {
            shape: sizes(size, "dimensions")?,
            strides: sizes(stride, "strides")?,
            offset: self
                .size(offset)
                .ok_or_else(|| Refusal::corrupt("has an offset that is no valid size"))?,
        };
        let (conjugated, negated) = self.flags(metadata)?;
        let info = TensorInfo::new(dtype, geometry, id, stored.bytes).map_err(Refusal::corrupt)?;
        if dtype.torch_name().starts_with("float4") && info.shape().is_empty() {
            return Err(Refusal::unsupported(
                "is a scalar of dtype float4_e2m1fn_x2, whose two halves safetensors cannot count",
            ));
        }
        Ok(info.with_flags(conjugated, negated))
    }

    /// `{'conj': True}` and `{'neg': True}`, the v2 and v3 functions' last argument.
    fn flags(&self, metadata: Option<ValueId>) -> Result<(bool, bool), Refusal> {
        let mut metadata = match metadata {
            None => return Ok((false, false)),
            Some(id) => self.graph.get(id),
        };
        // The C++ pickler wraps the dict: restore_type_tag(dict, 'Dict[str, bool]').
        if let Value::Object(object) = metadata
            && let Some([inner, ..]) = self.graph.tuple(object.args)
        {
            metadata = self.graph.get(*inner);
        }
        let pairs = match metadata {
            Value::None => return Ok((false, false)),
            Value::Dict(pairs) => pairs,
            _ => return Err(Refusal::corrupt("has metadata that is no dict")),
        };
        let mut flags = (false, false);
        for (key, value) in pairs {
            let set = self.graph.get(*value) == Value::Bool(true);
            match self.graph.str(*key) {
                Some("conj") => flags.0 = set,
                Some("neg") => flags.1 = set,
                _ => return Err(Refusal::unsupported("has metadata that is not known")),
            }
        }
        Ok(flags)
    }

    /// Sizes as a tuple, a list, or `torch.Size((…))`.
    fn sizes(&self, id: ValueId) -> Option<Vec<u64>> {
        let items = match self.graph.get(id) {
            Value::Tuple(items) | Value::List(items) => items,
            Value::Object(object) => {
                let global = self.graph.global(object.callable)?;
                match self.graph.tuple(object.args)? {
                    [inner] if global.module == "torch" && global.name == "Size" => {
                        self.graph.tuple(*inner)?
                    }
                    _ => return None,
                }
            }
            _ => return None,
        };
        items.iter().map(|item| self.size(*item)).collect()
    }

    fn size(&self, id: ValueId) -> Option<u64> {
        match self.graph.get(id) {
            Value::Int(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }
}

fn refused(reason: &str) -> Option<Leaf> {
    Some(Leaf::Refused(Refusal::corrupt(reason)))
}
