//! What was typed → the library's options.

use std::collections::BTreeMap;

use ckpt2st::{
    ConvertOptions, Ema, Error, FloatType, Limits, MetadataOptions, PlanOptions, Result, Root,
    Threads,
};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};

use super::args::{Cli, LimitArgs, MetadataArgs, ReportArgs, RootArgs, WeightArgs};

/// The options of a conversion or a verification; `typed` are those that [`typed`] gives.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage) for what can be told without a file.
pub fn conversion(
    weights: &WeightArgs,
    metadata: &MetadataArgs,
    limits: &LimitArgs,
    report: &ReportArgs,
    typed: &[String],
) -> Result<ConvertOptions> {
    let mut options = ConvertOptions::default();
    options.open.root = root(&weights.root);
    options.open.allow_dangerous = weights.allow_dangerous;
    options.open.limits = self::limits(limits)?;
    options.plan = plan(weights)?;
    options.plan.metadata = self::metadata(metadata, typed)?;
    options.threads = report.threads.map_or_else(Threads::default, Threads::new);
    Ok(options)
}

pub fn root(args: &RootArgs) -> Root {
    match &args.root {
        Some(path) => Root::Path(path.clone()),
        None if args.all => Root::All,
        None => Root::Auto,
    }
}

/// How much of a file is read.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage) for a limit that does not exist, and a value that is no number.
pub fn limits(args: &LimitArgs) -> Result<Limits> {
    let mut limits = Limits::default();
    for entry in &args.entries {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        if !Limits::NAMES.contains(&name) {
            return Err(Error::usage(format!(
                "--limit {entry:?} names no limit; there are {}",
                Limits::NAMES.join(", ")
            )));
        }
        limits.set(name, size("--limit", value)?);
    }
    Ok(limits)
}

/// What is done to the weights.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage) for a pattern or expression that is none.
fn plan(args: &WeightArgs) -> Result<PlanOptions> {
    let mut options = PlanOptions::default();
    options.dtype = match args.dtype {
        _ if args.fp16 => Some(FloatType::Float16),
        _ if args.bf16 => Some(FloatType::BFloat16),
        dtype => dtype,
    };
    options.keep_dtype.clone_from(&args.keep_dtype);
    options.on_overflow = args.on_overflow;
    options.ema = match args.prune_ema {
        true => Ema::Drop,
        false => args.ema,
    };
    options.ties = args.ties;
    options.include.clone_from(&args.include);
    options.exclude.clone_from(&args.exclude);
    let renames = args.rename.iter().map(|rename| rename.parse());
    options.rename = renames.collect::<Result<_>>()?;
    options.strip_prefix.clone_from(&args.strip_prefix);
    options.check()?;
    Ok(options)
}

/// What the output's metadata says; `typed` are the options that [`typed`] gives.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage) for entries that are none, or that another option sets.
fn metadata(args: &MetadataArgs, typed: &[String]) -> Result<MetadataOptions> {
    let mut options = MetadataOptions::default();
    options.entries = entries(&args.entries)?;
    options.config = args.keep_config;
    options.hashes = args.hash;
    options.provenance = args.provenance.then(|| typed.to_vec());
    options.check()?;
    Ok(options)
}

fn entries(typed: &[String]) -> Result<BTreeMap<String, String>> {
    let mut entries = BTreeMap::new();
    for entry in typed {
        let Some((key, value)) = entry.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Error::usage(format!(
                "--metadata {entry:?} is not of the form KEY=VALUE, as in license=mit"
            )));
        };
        if entries.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Error::usage(format!("--metadata: {key:?} is given twice")));
        }
    }
    Ok(entries)
}

/// Bytes of a size that was given for `option`, such as `5GB`, `500MiB`, `1.5 GB` or `1000000`: units of 1000 as Hugging Face counts, or of 1024
/// where they are written so.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage) for anything else, and for less than a byte.
pub fn size(option: &str, text: &str) -> Result<u64> {
    const UNITS: [(&str, f64); 10] = [
        ("KIB", 1024.0),
        ("MIB", 1_048_576.0),
        ("GIB", 1_073_741_824.0),
        ("TIB", 1_099_511_627_776.0),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("B", 1.0),
        ("", 1.0),
    ];
    let upper = text.trim().to_ascii_uppercase();
    let found = UNITS.iter().find_map(|(unit, bytes)| {
        let number: f64 = upper.strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * bytes)
    });
    match found {
        // Far below 2^53, so the number is exact.
        Some(bytes) if (1.0..1e15).contains(&bytes) => Ok(bytes as u64),
        _ => Err(Error::usage(format!(
            "{option}: {text:?} is no size; write one as in 5GB, 500MiB or 1000000"
        ))),
    }
}

/// The options that decide what an output holds, as they were typed.
pub fn typed(matches: &ArgMatches) -> Vec<String> {
    let mut typed = Vec::new();
    for arg in Cli::command().get_arguments() {
        let id = arg.get_id().as_str();
        let decides =
            matches!(arg.get_help_heading(), Some("Weights" | "Names")) || id == "max_shard_size";
        let is_typed = decides && matches.value_source(id) == Some(ValueSource::CommandLine);
        let Some(long) = arg.get_long().filter(|_| is_typed) else {
            continue;
        };
        if !arg.get_action().takes_values() {
            typed.push(format!("--{long}"));
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            typed.push(format!("--{long}"));
            typed.push(value.to_string_lossy().into_owned());
        }
    }
    typed
}
