//! State dicts that are drawn from bytes: views over shared storages, and what they hold by definition.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};
use zip::CompressionMethod;

use super::checkpoint::{Tensor, archive_of, call, call_untyped, text};

/// Choices that bytes make; always the first one when there are none left.
pub struct Draw<'d>(&'d [u8]);

impl<'d> Draw<'d> {
    pub fn new(bytes: &'d [u8]) -> Draw<'d> {
        Draw(bytes)
    }

    /// A number below `n`, by two bytes when one is not enough.
    pub fn below(&mut self, n: u64) -> u64 {
        let number = match n > 256 {
            true => u64::from(self.byte()) << 8 | u64::from(self.byte()),
            false => u64::from(self.byte()),
        };
        number % n.max(1)
    }

    pub fn pick<'t, T>(&mut self, table: &'t [T]) -> &'t T {
        &table[self.below(table.len() as u64) as usize]
    }

    /// The bytes that are left.
    pub fn rest(&self) -> &'d [u8] {
        self.0
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }
}

/// An element type: its storage class and its name in torch, its size in bytes, its name in safetensors.
pub type Element = (&'static str, &'static str, usize, Dtype);

const ELEMENTS: [Element; 20] = [
    ("FloatStorage", "float32", 4, Dtype::F32),
    ("HalfStorage", "float16", 2, Dtype::F16),
    ("BFloat16Storage", "bfloat16", 2, Dtype::BF16),
    ("DoubleStorage", "float64", 8, Dtype::F64),
    ("LongStorage", "int64", 8, Dtype::I64),
    ("IntStorage", "int32", 4, Dtype::I32),
    ("ShortStorage", "int16", 2, Dtype::I16),
    ("CharStorage", "int8", 1, Dtype::I8),
    ("ByteStorage", "uint8", 1, Dtype::U8),
    ("BoolStorage", "bool", 1, Dtype::BOOL),
    ("ComplexFloatStorage", "complex64", 8, Dtype::C64),
    ("UInt16Storage", "uint16", 2, Dtype::U16),
    ("UInt32Storage", "uint32", 4, Dtype::U32),
    ("UInt64Storage", "uint64", 8, Dtype::U64),
    ("Float8_e4m3fnStorage", "float8_e4m3fn", 1, Dtype::F8_E4M3),
    ("Float8_e5m2Storage", "float8_e5m2", 1, Dtype::F8_E5M2),
    (
        "Float8_e4m3fnuzStorage",
        "float8_e4m3fnuz",
        1,
        Dtype::F8_E4M3FNUZ,
    ),
    (
        "Float8_e5m2fnuzStorage",
        "float8_e5m2fnuz",
        1,
        Dtype::F8_E5M2FNUZ,
    ),
    ("Float8_e8m0fnuStorage", "float8_e8m0fnu", 1, Dtype::F8_E8M0),
    ("Float4_e2m1fn_x2Storage", "float4_e2m1fn_x2", 1, Dtype::F4),
];

/// What names are made of.
const PIECES: &[&str] = &[
    "weight",
    "bias",
    "model",
    "0",
    "11",
    "a",
    "state_dict",
    "model_ema",
    "optimizer",
    "step",
    "é",
    "重み",
    "\"",
    "\\",
    " ",
    "\n",
    "",
    "__metadata__",
];

/// A storage; untyped ones are counted in bytes, and their tensors name the element type.
pub struct Stored {
    pub element: Element,
    pub untyped: bool,
    pub bytes: Vec<u8>,
}

/// A view of a storage under a name; offset, sizes and strides in elements.
pub struct View {
    pub name: String,
    pub storage: usize,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// A flat state dict.
pub struct StateDict {
    pub storages: Vec<Stored>,
    pub views: Vec<View>,
}

/// A tensor as safetensors has it.
#[derive(Debug, PartialEq)]
pub struct Expected {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Expected>;

/// The tensors of an output as the reference reads them.
pub fn tensors(found: &SafeTensors) -> Tensors {
    let tensors = found.iter().map(|(name, tensor)| {
        let expected = Expected {
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            data: tensor.data().to_vec(),
        };
        (name.to_owned(), expected)
    });
    tensors.collect()
}

impl StateDict {
    /// One to four storages and one to eight views of them, few of which reach beyond their storage.
    pub fn draw(draw: &mut Draw) -> StateDict {
        let storages: Vec<Stored> = (0..=draw.below(4)).map(|_| Stored::draw(draw)).collect();
        let views = (0..=draw.below(8)).map(|_| View::draw(draw, &storages));
        let views = views.collect();
        StateDict { storages, views }
    }

    /// The zip archive that `torch.save` would write.
    pub fn archive(&self, method: CompressionMethod) -> Vec<u8> {
        let mut pickle = b"\x80\x02}(".to_vec();
        for view in &self.views {
            let stored = &self.storages[view.storage];
            text(&mut pickle, &view.name);
            match stored.untyped {
                true => call_untyped(
                    &mut pickle,
                    &view.tensor(stored),
                    stored.element.1,
                    stored.bytes.len(),
                ),
                false => call(&mut pickle, &view.tensor(stored)),
            }
        }
        pickle.extend(b"u.");
        let storages: Vec<Vec<u8>> = self.storages.iter().map(|s| s.bytes.clone()).collect();
        archive_of(&pickle, &storages, method)
    }

    /// The tensors under their full paths; `None` when one of them cannot be written.
    pub fn expected(&self) -> Option<Tensors> {
        let views: BTreeMap<&str, &View> =
            self.views.iter().map(|v| (v.name.as_str(), v)).collect();
        let expected = |(name, view): (&str, &View)| {
            let stored = &self.storages[view.storage];
            let (_, _, size, dtype) = stored.element;
            let data = view.tensor(stored).gathered(size, &stored.bytes)?;
            let mut shape: Vec<usize> = view.shape.iter().map(|n| *n as usize).collect();
            if dtype == Dtype::F4 {
                // Two in each byte; one without a dimension would be half of one.
                *shape.last_mut()? *= 2;
            }
            let tensor = Expected { dtype, shape, data };
            (name != "__metadata__").then(|| (name.to_owned(), tensor))
        };
        views.into_iter().map(expected).collect()
    }
}

impl Stored {
    fn draw(draw: &mut Draw) -> Stored {
        let element = *draw.pick(&ELEMENTS);
        let untyped = draw.below(4) == 1;
        let numel = draw.below(64) as usize;
        let mut state = draw.below(1 << 16) as u32;
        let noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let bytes = std::iter::repeat_with(noise).take(numel * element.2);
        Stored {
            element,
            untyped,
            bytes: bytes.collect(),
        }
    }

    fn numel(&self) -> u64 {
        (self.bytes.len() / self.element.2) as u64
    }
}

impl View {
    fn draw(draw: &mut Draw, storages: &[Stored]) -> View {
        let storage = draw.below(storages.len() as u64) as usize;
        let numel = storages[storage].numel();
        let pieces = (0..=draw.below(3)).map(|_| *draw.pick(PIECES));
        let name = pieces.collect::<Vec<_>>().join(".");
        let mut view = View {
            name,
            storage,
            offset: draw.below(numel.max(1)),
            shape: Vec::new(),
            strides: Vec::new(),
        };
        // Elements behind the first one that are there to be reached.
        let mut left = numel.saturating_sub(view.offset + 1);
        let mut row = 1;
        for _ in 0..draw.below(5) {
            let (mut size, how) = (draw.below(6), draw.below(8));
            let stride = match how {
                0..3 => row,
                3 => draw.below(1 << 16),
                _ => draw.below(9),
            };
            let reach = size.saturating_sub(1) * stride;
            match reach <= left {
                true => left -= reach,
                false => size = 1,
            }
            row = (row * size).max(1);
            view.shape.insert(0, size);
            view.strides.insert(0, stride);
        }
        if draw.below(64) == 63 {
            view.offset += draw.below(1 << 16);
        }
        view
    }

    fn tensor<'v>(&'v self, stored: &Stored) -> Tensor<'v> {
        Tensor {
            name: &self.name,
            class: stored.element.0,
            numel: stored.numel() as usize,
            storage: self.storage,
            offset: self.offset,
            shape: &self.shape,
            strides: &self.strides,
        }
    }
}
