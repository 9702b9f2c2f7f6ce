//! What holds for any value, any state dict and any damage. The cases are drawn at random, the same in every run.

use std::fs;

use ckpt2st::pickle::load;
use ckpt2st::{ConvertOptions, Cut, Destination, FloatType, Limits, Root, ShardNames, convert};
use half::{bf16, f16};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed};
use safetensors::{Dtype, SafeTensors};
use serde_pickle::value::{HashableValue, Value as Oracle};
use serde_pickle::{SerOptions, value_from_slice, value_to_vec};
use zip::CompressionMethod;

use crate::common;
use crate::common::plain::{shown, to_oracle};
use crate::common::state_dict::{Draw, StateDict, Tensors, tensors};

fn cases(cases: u32) -> Config {
    Config {
        cases,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..Config::default()
    }
}

/// Keys no two kinds of which are equal in Python.
fn keys() -> impl Strategy<Value = HashableValue> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(HashableValue::I64),
        ".{0,12}".prop_map(HashableValue::String),
        Just(HashableValue::None),
    ];
    leaf.prop_recursive(2, 6, 3, |key| vec(key, 0..3).prop_map(HashableValue::Tuple))
}

/// Values of every kind; serde-pickle cannot tell bytes from text below protocol 3.
fn values(with_bytes: bool) -> impl Strategy<Value = Oracle> {
    let bytes = move |bytes| match with_bytes {
        true => Oracle::Bytes(bytes),
        false => Oracle::None,
    };
    let leaf = prop_oneof![
        Just(Oracle::None),
        any::<bool>().prop_map(Oracle::Bool),
        any::<i64>().prop_map(Oracle::I64),
        (-300..300i64).prop_map(Oracle::I64),
        vec(any::<u8>(), 9..40)
            .prop_map(|b| Oracle::Int(num_bigint::BigInt::from_signed_bytes_le(&b))),
        any::<f64>().prop_map(Oracle::F64),
        ".{0,40}".prop_map(Oracle::String),
        vec(any::<u8>(), 0..300).prop_map(bytes),
    ];
    leaf.prop_recursive(5, 60, 8, |value| {
        prop_oneof![
            vec(value.clone(), 0..8).prop_map(Oracle::List),
            vec(value.clone(), 0..8).prop_map(Oracle::Tuple),
            btree_map(keys(), value, 0..8).prop_map(Oracle::Dict),
            btree_set(keys(), 0..8).prop_map(Oracle::Set),
            btree_set(keys(), 0..8).prop_map(Oracle::FrozenSet),
        ]
    })
}

/// What serde-pickle reads of a pickle, and what we do.
fn read_twice(pickle: &[u8]) -> (String, String) {
    let theirs = value_from_slice(pickle, Default::default()).unwrap();
    let loaded = load(&pickle.to_vec(), 0, &Limits::default()).unwrap();
    assert_eq!(loaded.end, pickle.len() as u64);
    (
        shown(&theirs),
        shown(&to_oracle(&loaded.graph, loaded.root)),
    )
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn any_plain_value_in_protocol_2_reads_as_the_oracle_reads_it(value in values(false)) {
        let pickle = value_to_vec(&value, SerOptions::new().proto_v2()).unwrap();
        let (theirs, ours) = read_twice(&pickle);
        prop_assert_eq!(theirs, ours);
    }

    #[test]
    fn any_plain_value_in_protocol_3_reads_as_the_oracle_reads_it(value in values(true)) {
        let pickle = value_to_vec(&value, SerOptions::new()).unwrap();
        let (theirs, ours) = read_twice(&pickle);
        prop_assert_eq!(theirs, ours);
    }
}

#[test]
fn nested_values_that_python_pickled_in_every_protocol_read_as_the_oracle_reads_them() {
    let folder = common::fixtures().join("plain");
    for number in 0..12 {
        let file =
            |protocol: u8| fs::read(folder.join(format!("{number:02}_{protocol}.pkl"))).unwrap();
        // The oracle does not know the calls by which the oldest protocols write bytes and sets.
        let oracle = shown(&value_from_slice(&file(4), Default::default()).unwrap());
        for protocol in 0..6 {
            let loaded = load(&file(protocol), 0, &Limits::default()).unwrap();
            let ours = shown(&to_oracle(&loaded.graph, loaded.root));
            assert!(ours == oracle, "{number:02}_{protocol}.pkl");
        }
    }
}

/// Every tensor of every file that a conversion makes.
fn converted(input: &[u8], dtype: Option<FloatType>, cut: Option<u64>) -> ckpt2st::Result<Tensors> {
    let folder = common::quick_folder();
    let source = folder.path().join("in.pt");
    fs::write(&source, input).unwrap();
    let output = folder.path().join("out");
    let mut options = ConvertOptions::default();
    options.open.root = Root::All;
    options.plan.dtype = dtype;
    options.sync = false;
    let destination = match cut {
        None => Destination::File(output.join("model.safetensors")),
        Some(bytes) => Destination::Shards {
            folder: output.clone(),
            names: ShardNames::of_stem("model"),
            cut: Cut::MaxBytes(bytes),
        },
    };
    convert(&source, &destination, &options, &())?;
    let mut found = Tensors::new();
    for file in fs::read_dir(output)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if file
            .extension()
            .is_some_and(|suffix| suffix == "safetensors")
        {
            let file = fs::read(file).unwrap();
            found.extend(tensors(&SafeTensors::deserialize(&file).unwrap()));
        }
    }
    Ok(found)
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn any_state_dict_is_converted_as_it_is_by_definition(
        drawn in vec(any::<u8>(), 0..200),
        deflated in any::<bool>(),
        cut in prop::option::of(1..2000u64),
    ) {
        let state_dict = StateDict::draw(&mut Draw::new(&drawn));
        let method = match deflated {
            true => CompressionMethod::Deflated,
            false => CompressionMethod::Stored,
        };
        let found = converted(&state_dict.archive(method), None, cut);
        // What cannot be written is an error, and nothing else is.
        prop_assert_eq!(found.ok(), state_dict.expected());
    }

    #[test]
    fn any_state_dict_is_cast_value_by_value(drawn in vec(any::<u8>(), 0..200), to in 0..3usize) {
        let state_dict = StateDict::draw(&mut Draw::new(&drawn));
        let to = [FloatType::Float32, FloatType::Float16, FloatType::BFloat16][to];
        let found = converted(&state_dict.archive(CompressionMethod::Stored), Some(to), None);
        match (found, state_dict.expected()) {
            (Ok(found), Some(expected)) => assert_cast(&found, &expected, to),
            (found, expected) => prop_assert_eq!(found.ok(), expected),
        }
    }
}

/// The floats that `half` and Rust cast by themselves.
fn floats(dtype: Dtype, data: &[u8]) -> Option<Vec<f32>> {
    let pairs = || data.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    Some(match dtype {
        Dtype::F32 => data
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect(),
        Dtype::F16 => pairs()
            .map(|pair| f16::from_le_bytes(pair).to_f32())
            .collect(),
        Dtype::BF16 => pairs()
            .map(|pair| bf16::from_le_bytes(pair).to_f32())
            .collect(),
        _ => return None,
    })
}

fn assert_cast(found: &Tensors, expected: &Tensors, to: FloatType) {
    assert!(found.keys().eq(expected.keys()));
    for (name, before) in expected {
        let after = &found[name];
        assert_eq!(after.shape, before.shape, "{name}");
        let Some(values) = floats(before.dtype, &before.data) else {
            // Other floats are cast too, and nothing else.
            let is_float =
                format!("{:?}", before.dtype).starts_with('F') && before.dtype != Dtype::F4;
            assert!(is_float || after == before, "{name}");
            continue;
        };
        let (dtype, values): (Dtype, Vec<f32>) = match to {
            FloatType::Float16 => (
                Dtype::F16,
                values.iter().map(|v| f16::from_f32(*v).to_f32()).collect(),
            ),
            FloatType::BFloat16 => (
                Dtype::BF16,
                values.iter().map(|v| bf16::from_f32(*v).to_f32()).collect(),
            ),
            _ => (Dtype::F32, values),
        };
        assert_eq!(after.dtype, dtype, "{name}");
        let found = floats(dtype, &after.data).unwrap();
        let bits = |values: &[f32]| -> Vec<u32> {
            let bits = values
                .iter()
                .map(|v| if v.is_nan() { u32::MAX } else { v.to_bits() });
            bits.collect()
        };
        assert_eq!(bits(&found), bits(&values), "{name}");
    }
}
