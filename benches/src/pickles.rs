//! Pickles as Python's and torch's picklers write them, made without either.

use zip::CompressionMethod;

use crate::checkpoint::archive_of;

/// A pickler of protocol 2 that remembers what it wrote, as Python's does.
struct Pickler {
    bytes: Vec<u8>,
    memo: u32,
}

impl Pickler {
    fn new() -> Pickler {
        Pickler {
            bytes: b"\x80\x02".to_vec(),
            memo: 0,
        }
    }

    fn op(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// BINPUT or LONG_BINPUT.
    fn put(&mut self) -> u32 {
        let number = self.memo;
        self.memo += 1;
        match u8::try_from(number) {
            Ok(number) => self.op(&[b'q', number]),
            Err(_) => {
                self.op(b"r");
                self.op(&number.to_le_bytes());
            }
        }
        number
    }

    /// BINGET; what is got often was written early.
    fn get(&mut self, number: u32) {
        self.op(&[b'h', number as u8]);
    }

    fn text(&mut self, text: &str) -> u32 {
        self.op(b"X");
        self.op(&(text.len() as u32).to_le_bytes());
        self.op(text.as_bytes());
        self.put()
    }

    fn int(&mut self, value: u32) {
        match (u8::try_from(value), u16::try_from(value)) {
            (Ok(value), _) => self.op(&[b'K', value]),
            (_, Ok(value)) => {
                self.op(b"M");
                self.op(&value.to_le_bytes());
            }
            _ => {
                self.op(b"J");
                self.op(&value.to_le_bytes());
            }
        }
    }

    fn global(&mut self, name: &str) -> u32 {
        self.op(b"c");
        self.op(name.replace(' ', "\n").as_bytes());
        self.op(b"\n");
        self.put()
    }
}

/// `data.pkl` of a state dict, in the opcodes that `torch.save` writes.
pub fn state_dict(tensors: usize) -> Vec<u8> {
    let mut pickler = Pickler::new();
    let ordered = pickler.global("collections OrderedDict");
    pickler.op(b")R");
    pickler.put();
    let mut known = None;
    for number in 0..tensors {
        if number % 1000 == 0 {
            pickler.op(if number == 0 { b"(" } else { b"u(" });
        }
        pickler.text(&format!(
            "model.layers.{}.self_attn.{number}.weight",
            number / 8
        ));
        let (rebuild, tag, class, location) = *known.get_or_insert_with(|| {
            let rebuild = pickler.global("torch._utils _rebuild_tensor_v2");
            pickler.op(b"((");
            let tag = pickler.text("storage");
            let class = pickler.global("torch FloatStorage");
            pickler.text("0");
            (rebuild, tag, class, pickler.text("cpu"))
        });
        if number > 0 {
            pickler.get(rebuild);
            pickler.op(b"((");
            pickler.get(tag);
            pickler.get(class);
            pickler.text(&number.to_string());
            pickler.get(location);
        }
        pickler.int(64);
        pickler.op(b"t");
        pickler.put();
        pickler.op(b"QK\0");
        for sizes in [[8, 8], [8, 1]] {
            sizes.into_iter().for_each(|size| pickler.int(size));
            pickler.op(b"\x86");
            pickler.put();
        }
        pickler.op(b"\x89");
        pickler.get(ordered);
        pickler.op(b")R");
        pickler.put();
        pickler.op(b"t");
        pickler.put();
        pickler.op(b"R");
        pickler.put();
    }
    pickler.op(b"u.");
    pickler.bytes
}

/// A list of dicts of plain values, as configurations and histories are.
pub fn plain(dicts: usize) -> Vec<u8> {
    let mut pickler = Pickler::new();
    pickler.op(b"]");
    pickler.put();
    let mut keys = None;
    for number in 0..dicts {
        if number % 1000 == 0 {
            pickler.op(if number == 0 { b"(" } else { b"e(" });
        }
        pickler.op(b"}");
        pickler.put();
        pickler.op(b"(");
        let known = keys.is_some();
        let keys =
            keys.get_or_insert_with(|| ["step", "loss", "name", "betas"].map(|key| (key, 0)));
        for (key, place) in keys.iter_mut() {
            match known {
                true => pickler.get(*place),
                false => *place = pickler.text(key),
            }
            match *key {
                "step" => pickler.int(number as u32),
                "loss" => {
                    pickler.op(b"G");
                    pickler.op(&(1.0 / (number + 1) as f64).to_be_bytes());
                }
                "name" => {
                    pickler.text(&format!("run {number}"));
                }
                _ => {
                    for beta in [0.9f64, 0.999] {
                        pickler.op(b"G");
                        pickler.op(&beta.to_be_bytes());
                    }
                    pickler.op(b"\x86");
                    pickler.put();
                }
            }
        }
        pickler.op(b"u");
    }
    pickler.op(b"e.");
    pickler.bytes
}

/// A file of `torch.save` with a state dict.
pub fn archive(tensors: usize) -> Vec<u8> {
    let storages = vec![vec![0; 256]; tensors];
    archive_of(&state_dict(tensors), &storages, CompressionMethod::Stored)
}
