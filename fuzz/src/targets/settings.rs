//! Limits and options.

use std::num::NonZero;
use std::sync::LazyLock;

use ckpt2st::{ConvertOptions, Cut, Ema, FloatType, Limits, OnOverflow, Root, Threads, Ties};

use super::super::state_dict::Draw;

/// Draws a state dict of several tensors to compare with.
pub const SOME_STATE_DICT: &[u8] =
    b"\x01\x00\x00\x10\x01\x01\x03\x00\x08\x02\x02\x02\x00\x01\x00\x00\x02\x03\x00\x02\x00\x01";

/// Small enough to be reached.
pub fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.pickle_bytes = 1 << 20;
    limits.nodes = 100_000;
    limits.graph_bytes = 4 << 20;
    limits.memo = 50_000;
    limits.depth = 20_000;
    limits.visits = 100_000;
    limits.tensors = 2_000;
    limits.nesting = 200;
    limits.name_bytes = 4096;
    limits.line_bytes = 4096;
    limits.rank = 16;
    limits.records = 100;
    limits.directory_bytes = 64 << 10;
    limits.json_bytes = 64 << 10;
    limits.json_values = 2_000;
    limits
}

static ONE_THREAD: LazyLock<Threads> = LazyLock::new(|| Threads::new(NonZero::<usize>::MIN));

/// The defaults, but for what costs time.
pub fn plain() -> ConvertOptions {
    let mut options = ConvertOptions::default();
    options.open.limits = limits();
    options.sync = false;
    options.threads = ONE_THREAD.clone();
    options
}

/// One file, or as many as it takes.
pub fn cut(draw: &mut Draw) -> Option<Cut> {
    match draw.below(4) {
        0..3 => None,
        _ => Some(Cut::MaxBytes(draw.below(4096) + 1)),
    }
}

const GLOBS: &[&str] = &[
    "*",
    "*.weight",
    "w*",
    "?",
    "[a-m]*",
    "model*",
    "**.b{ias,}",
    "a",
    "{",
    "[",
    "\\",
    "",
];
const RENAMES: &[&str] = &[
    "a=>b",
    "^.=>",
    "(.*)=>$1$1",
    "=>x",
    ".*=>same",
    "$=>.weight",
    "(=>",
    "weight",
    "^=>__metadata__",
];
const PREFIXES: &[&str] = &["", "model.", "a", "w"];
const ROOTS: &[&str] = &["state_dict", "model", "0", "", ".", "a.b"];

/// Any options, and into how many files.
pub fn draw(draw: &mut Draw) -> (ConvertOptions, Option<Cut>) {
    let mut options = plain();
    let cut = cut(draw);
    let plan = &mut options.plan;
    plan.dtype = *draw.pick(&[
        None,
        Some(FloatType::Float16),
        Some(FloatType::BFloat16),
        Some(FloatType::Float32),
        Some(FloatType::Float8E4M3Fn),
        Some(FloatType::Float8E5M2),
    ]);
    plan.on_overflow = *draw.pick(&[OnOverflow::Warn, OnOverflow::Clamp, OnOverflow::Error]);
    plan.ema = *draw.pick(&[Ema::Keep, Ema::Drop, Ema::Only]);
    plan.ties = *draw.pick(&[Ties::Copy, Ties::Alias, Ties::Error]);
    for patterns in [&mut plan.include, &mut plan.exclude, &mut plan.keep_dtype] {
        patterns.extend(some(draw, GLOBS).map(str::to_owned));
    }
    plan.rename
        .extend(some(draw, RENAMES).and_then(|rename| rename.parse().ok()));
    plan.strip_prefix
        .extend(some(draw, PREFIXES).map(str::to_owned));
    plan.metadata.config = draw.below(2) == 1;
    plan.metadata.hashes = draw.below(4) == 1;
    plan.metadata.provenance = (draw.below(4) == 1).then(|| vec!["--all".to_owned()]);
    options.open.root = match draw.below(4) {
        0..2 => Root::Auto,
        2 => Root::All,
        _ => Root::Path((*draw.pick(ROOTS)).to_owned()),
    };
    options.open.config = draw.below(2) == 1;
    options.open.allow_dangerous = draw.below(2) == 1;
    options.verify = draw.below(4) == 1;
    (options, cut)
}

/// Mostly nothing.
fn some<'t>(draw: &mut Draw, table: &[&'t str]) -> Option<&'t str> {
    (draw.below(4) == 3).then(|| *draw.pick(table))
}
