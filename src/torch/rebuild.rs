//! [`Reader`]: which values of a graph are tensors.

use std::collections::HashMap;

use super::changed;
use super::dense::{self, CHANGED};
use super::dtensor;
use super::globals::{self, Element, Meaning, StorageClass};
use super::keys::Children;
use super::leaf::{Leaf, Refusal, Tensor};
use super::mapping;
use super::module::ScriptClasses;
use super::numpy;
use super::storage::{Place, Storage, Storages, text_of};
use super::tensor::TensorInfo;
use crate::dtype::Dtype;
use crate::pickle::{Graph, Object, Value, ValueId};

/// Wrapping functions nest at most a few deep: a parameter of a subclass of a tensor.
const MAX_WRAPPERS: usize = 16;

/// Reads tensors out of a graph and collects the storages that they name.
pub struct Reader<'g> {
    graph: &'g Graph,
    storages: Storages,
    scripts: Option<&'g ScriptClasses>,
    /// Tensors that the container itself names, by persistent id (torch 0.1).
    named: HashMap<String, Leaf>,
    /// Whether a tensor inside a tensor that wraps it is being read.
    inside_wrapper: bool,
}

/// A tensor that a container describes outside of its pickle. Sizes, strides and offset count elements.
pub struct NamedTensor {
    /// The persistent id that stands for it.
    pub id: String,
    pub class: StorageClass,
    /// The key of the record that holds its storage.
    pub record: String,
    /// Where in the record the storage starts, and its size, in bytes.
    pub start: u64,
    pub bytes: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
    pub offset: u64,
}

impl<'g> Reader<'g> {
    /// A reader of `graph`, with the classes of a TorchScript archive.
    pub fn new(graph: &'g Graph, scripts: Option<&'g ScriptClasses>) -> Reader<'g> {
        Reader {
            graph,
            // C++ reads TorchScript archives.
            storages: Storages::new(graph, scripts.is_some()),
            scripts,
            named: HashMap::new(),
            inside_wrapper: false,
        }
    }

    /// Makes a persistent id stand for a tensor.
    pub fn name(&mut self, tensor: NamedTensor) {
        let storage = Storage {
            key: tensor.record.clone(),
            bytes: tensor.bytes,
            place: Place::Part {
                start: tensor.start,
            },
            byte_order: None,
            untyped: false,
        };
        let name = format!("{}: {}, {}", tensor.record, tensor.start, tensor.bytes);
        let leaf = match self.storages.keyed(name, tensor.class, storage) {
            Ok((storage, StorageClass::Typed(Element::Known(dtype)))) => {
                let (shape, strides) = (tensor.shape, tensor.strides);
                let bytes = tensor.bytes;
                let info = TensorInfo::new(dtype, shape, strides, tensor.offset, storage, bytes);
                Leaf::from(info.map_err(Refusal::corrupt))
            }
            _ => Leaf::Refused(Refusal::corrupt("has a storage that contradicts itself")),
        };
        self.named.insert(tensor.id, leaf);
    }

    /// The storages that were named, by [`StorageId`](super::StorageId).
    pub fn into_storages(self) -> Vec<Storage> {
        self.storages.into_list()
    }

    /// What lies directly below a value; `None` for a leaf.
    pub fn children(&self, id: ValueId) -> Option<Children> {
        mapping::children(self.graph, self.scripts, id)
    }

    /// The tensor that `id` is; `None` when it is something else.
    pub fn tensor(&mut self, id: ValueId) -> Option<Leaf> {
        let graph = self.graph;
        let mut id = id;
        let mut restored = None;
        for depth in 0..MAX_WRAPPERS {
            id = globals::see_through(graph, id);
            let call = match graph.get(id) {
                Value::Object(object) => self.call(object),
                Value::Persistent(pid) => match self.persistent(pid) {
                    None => None,
                    leaf => return leaf,
                },
                _ => None,
            };
            let call = match call {
                Some(Ok(call)) => call,
                Some(Err(refusal)) => return Some(Leaf::Refused(refusal)),
                None if depth == 0 => return None,
                // torch fails, or makes a tensor of values that lie elsewhere.
                None => return refused("wraps a value that is no tensor"),
            };
            let Call { object, state, .. } = call;
            let found = match (call.meaning, call.args) {
                (Meaning::RebuildParameter, [tensor, ..]) => {
                    id = *tensor;
                    continue;
                }
                (Meaning::RebuildOnDevice, [data, dtype, ..]) if restored.is_none() => {
                    id = *data;
                    restored = Some(*dtype);
                    continue;
                }
                (Meaning::TensorClass, args) => match self.old_style(object, args) {
                    Ok(OldStyle::Dense(view)) => dense::read(
                        graph,
                        &mut self.storages,
                        view,
                        None,
                        None,
                        object.built_at(),
                    ),
                    Ok(OldStyle::Around(tensor)) => {
                        id = tensor;
                        continue;
                    }
                    Err(refusal) => Err(refusal),
                },
                (Meaning::RebuildTensor, [a, b, c, d, rest @ ..]) => {
                    let (view, metadata) = ([*a, *b, *c, *d], rest.get(2).copied());
                    dense::read(
                        graph,
                        &mut self.storages,
                        view,
                        None,
                        metadata,
                        object.offset,
                    )
                }
                (Meaning::RebuildTensorV3, [a, b, c, d, _, _, dtype, rest @ ..]) => {
                    let (view, metadata) = ([*a, *b, *c, *d], rest.first().copied());
                    let dtype = Some(*dtype);
                    dense::read(
                        graph,
                        &mut self.storages,
                        view,
                        dtype,
                        metadata,
                        object.offset,
                    )
                }
                (Meaning::NumpyArray, _) => {
                    numpy::reconstructed(graph, &mut self.storages, id, object)
                }
                (Meaning::NumpyBuffer, args) => {
                    numpy::from_buffer(graph, &mut self.storages, id, args)
                }
                (Meaning::NumpyScalar, args) => {
                    return numpy::scalar(graph, &mut self.storages, id, args).map(Leaf::from);
                }
                (Meaning::RebuildWrapper, args) => self.wrapped(args, state, object.offset),
                (Meaning::Storage(_), _) => return bare_storage(),
                (Meaning::NoDenseTensor(kind), args) => Err(Refusal::unsupported(format!(
                    "is {}",
                    self.refine(kind, args)
                ))),
                (
                    Meaning::RebuildParameter
                    | Meaning::RebuildOnDevice
                    | Meaning::RebuildTensor
                    | Meaning::RebuildTensorV3,
                    _,
                ) => return refused("is rebuilt from arguments in a form that is not known"),
                _ => return refused("is rebuilt in a form that is not known"),
            };
            return Some(Leaf::from(found.and_then(|info| {
                let info = self.restore(info, restored)?;
                if info.dtype() == Dtype::Float4E2M1FnX2 && info.shape().is_empty() {
                    return Err(Refusal::unsupported(
                        "is a scalar of dtype float4_e2m1fn_x2, whose two halves safetensors cannot count",
                    ));
                }
                Ok(info)
            })));
        }
        refused("is wrapped too many times")
    }

    /// The call by which an object is a tensor; `None` for what is none.
    fn call(&self, object: &'g Object) -> Option<Result<Call<'g>, Refusal>> {
        let meaning = globals::meaning_of(self.graph, object)?;
        let is_call =
            meaning.is_tensor() || matches!(meaning, Meaning::NumpyScalar | Meaning::Storage(_));
        is_call.then(|| self.readable(object, meaning))
    }

    /// A call of which nothing changes the elements that are not read here.
    fn readable(&self, object: &'g Object, meaning: Meaning) -> Result<Call<'g>, Refusal> {
        let graph = self.graph;
        if changed::is_changed(graph, object, meaning) {
            return Err(Refusal::unsupported(CHANGED));
        }
        let args = graph.tuple(object.args);
        let args =
            args.ok_or_else(|| Refusal::corrupt("is made of arguments that are no tuple"))?;
        let mut call = Call {
            object,
            meaning,
            args,
            state: None,
        };
        if meaning == Meaning::RebuildFromType {
            call = self.unwrap_type(object, args).ok_or_else(|| {
                Refusal::corrupt("has a _rebuild_from_type_v2 call of another form")
            })?;
        }
        let is_parameter = call.meaning == Meaning::RebuildParameter;
        let of_parameter = call.args.get(3).copied().filter(|_| is_parameter);
        for state in [call.state, of_parameter] {
            if changed::sets_elements(graph, state) {
                return Err(Refusal::unsupported(CHANGED));
            }
        }
        Ok(call)
    }

    /// `_rebuild_from_type_v2(func, type, args, state)`: the state holds attributes, and the data only of
    /// tensors that wrap others.
    fn unwrap_type(&self, object: &'g Object, args: &'g [ValueId]) -> Option<Call<'g>> {
        let [function, _, inner, rest @ ..] = args else {
            return None;
        };
        Some(Call {
            object,
            meaning: globals::meaning(self.graph.global(*function)?)?,
            args: self.graph.tuple(*inner)?,
            state: rest.first().copied(),
        })
    }

    /// A storage without a tensor around it, or a tensor that the container names.
    fn persistent(&self, pid: ValueId) -> Option<Leaf> {
        if let Some(leaf) = text_of(self.graph, pid).and_then(|id| self.named.get(&id)) {
            if self.storages.changed().is_any() {
                return Some(Leaf::Refused(Refusal::unsupported(CHANGED)));
            }
            return Some(leaf.clone());
        }
        // ('module', class, file, source) stands for a class (torch/serialization.py, `_legacy_load`).
        let tag = self.graph.tuple(pid).and_then(|items| items.first());
        if tag.and_then(|tag| self.graph.str(*tag)) == Some("module") {
            return None;
        }
        bare_storage()
    }

    /// An instance of a tensor class, as written before 0.4: `__setstate__` takes (storage, offset, size,
    /// stride) for a tensor, and a tuple of five that starts with the tensor for a variable.
    fn old_style(&self, object: &Object, args: &[ValueId]) -> Result<OldStyle, Refusal> {
        match object.state().and_then(|state| self.graph.tuple(state)) {
            Some([storage, offset, size, stride]) => {
                Ok(OldStyle::Dense([*storage, *offset, *size, *stride]))
            }
            Some([tensor, _, _, _, _]) => Ok(OldStyle::Around(*tensor)),
            _ => match args {
                [tensor, ..] => Ok(OldStyle::Around(*tensor)),
                [] => Err(Refusal::unsupported(
                    "is a tensor in a form that is not known",
                )),
            },
        }
    }

    /// The local tensor of a DTensor, if it is all of it.
    fn wrapped(
        &mut self,
        args: &[ValueId],
        state: Option<ValueId>,
        at: u64,
    ) -> Result<TensorInfo, Refusal> {
        let local = dtensor::local(self.graph, args, state, at)?;
        let only_rank = match local.ranks.map(|ranks| self.plain(ranks)) {
            Some(Ok(ranks)) => ranks.numel() == 1,
            _ => false,
        };
        let info = self.plain(local.tensor)?;
        if info.shape() != local.shape || (local.is_partial && !only_rank) {
            return Err(Refusal::unsupported(
                "is a part of a distributed tensor, and the other parts are in other files; \
                 save the full tensor, or a distributed checkpoint",
            ));
        }
        Ok(info)
    }

    /// A tensor inside another one, which is no such wrapper again.
    fn plain(&mut self, id: ValueId) -> Result<TensorInfo, Refusal> {
        let again = "wraps a value that is no plain tensor";
        if std::mem::replace(&mut self.inside_wrapper, true) {
            return Err(Refusal::unsupported(again));
        }
        let found = self.tensor(id);
        self.inside_wrapper = false;
        match found {
            Some(Leaf::Tensor(Tensor::View(info))) => Ok(info),
            Some(Leaf::Refused(refusal)) => Err(refusal),
            _ => Err(Refusal::unsupported(again)),
        }
    }

    /// A device without a format of its own writes another dtype; all its values are exact in `dtype`.
    fn restore(&self, info: TensorInfo, dtype: Option<ValueId>) -> Result<TensorInfo, Refusal> {
        let Some(dtype) = dtype else {
            return Ok(info);
        };
        match dense::element_of(self.graph, dtype)? {
            Element::Known(dtype) if dtype == info.dtype() => Ok(info),
            Element::Known(dtype @ (Dtype::BFloat16 | Dtype::Float16))
                if info.dtype() == Dtype::Float32 =>
            {
                Ok(info.restored_to(dtype))
            }
            _ => Err(Refusal::unsupported(
                "is a tensor of another device whose data is of another dtype",
            )),
        }
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
}

/// A call that makes a tensor.
struct Call<'g> {
    /// The value that it is.
    object: &'g Object,
    meaning: Meaning,
    args: &'g [ValueId],
    /// The attributes that `_rebuild_from_type_v2` gives it.
    state: Option<ValueId>,
}

/// How an instance of a tensor class holds its data.
enum OldStyle {
    /// In a storage: that, offset, size and stride.
    Dense([ValueId; 4]),
    /// In another tensor.
    Around(ValueId),
}

fn bare_storage() -> Option<Leaf> {
    let reason = "is a storage without a tensor around it";
    Some(Leaf::Refused(Refusal::unsupported(reason)))
}

fn refused(reason: &str) -> Option<Leaf> {
    Some(Leaf::Refused(Refusal::corrupt(reason)))
}
