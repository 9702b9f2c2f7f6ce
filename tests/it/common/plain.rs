//! Plain data as the serde-pickle crate shows it.

use std::collections::BTreeMap;

use ckpt2st::pickle::{Graph, Value, ValueId};
use serde_pickle::value::{HashableValue, Value as Oracle};

/// Our graph as serde-pickle shows values.
pub fn to_oracle(graph: &Graph, id: ValueId) -> Oracle {
    let all = |ids: &[ValueId]| ids.iter().map(|id| to_oracle(graph, *id)).collect();
    let keys = |ids: &[ValueId]| ids.iter().map(|id| to_key(graph, *id)).collect();
    match graph.get(id) {
        Value::None => Oracle::None,
        Value::Bool(value) => Oracle::Bool(value),
        Value::Int(value) => Oracle::I64(value),
        Value::BigInt(bytes) => Oracle::Int(num_bigint::BigInt::from_signed_bytes_le(bytes)),
        Value::Float(value) => Oracle::F64(value),
        Value::Str(text) => Oracle::String(text.to_owned()),
        Value::Bytes(bytes) => Oracle::Bytes(bytes.to_vec()),
        Value::Tuple(ids) => Oracle::Tuple(all(ids)),
        Value::List(ids) => Oracle::List(all(ids)),
        Value::Set(ids) => Oracle::Set(keys(ids)),
        Value::FrozenSet(ids) => Oracle::FrozenSet(keys(ids)),
        Value::Dict(pairs) => {
            let pairs = pairs.iter();
            let pairs = pairs.map(|(k, v)| (to_key(graph, *k), to_oracle(graph, *v)));
            Oracle::Dict(pairs.collect::<BTreeMap<_, _>>())
        }
        other => panic!("no plain data: {other:?}"),
    }
}

fn to_key(graph: &Graph, id: ValueId) -> HashableValue {
    to_oracle(graph, id).into_hashable().unwrap()
}

/// NaN is not equal to itself; its text is.
pub fn shown(value: &Oracle) -> String {
    format!("{value:?}")
}
