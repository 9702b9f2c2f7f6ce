//! `--dry-run`: what a conversion would do, as a table on stdout.

use std::path::Path;

use ckpt2st::{Preview, PreviewTensor, Why};
use indicatif::HumanBytes;

use super::report;

/// Longer names stand out of their column: one of them must not make all lines long.
const WIDEST: usize = 90;

/// The plan.
pub fn lines(input: &Path, preview: &Preview, verbose: bool) -> Vec<String> {
    let summary = &preview.summary;
    let mut lines = vec![report::title(input, summary)];
    lines.extend(report::about(summary, verbose));
    lines.push(String::new());
    lines.extend(table(preview));
    if !summary.skipped.is_empty() {
        lines.push(String::new());
        lines.push("not written:".to_owned());
        lines.extend(summary.skipped.iter().map(|skipped| {
            let why = match &skipped.why {
                Why::NotIncluded => "matches no --include".to_owned(),
                Why::Excluded(pattern) => format!("matches --exclude {pattern:?}"),
                Why::Average => "an averaged weight".to_owned(),
                Why::Alias(kept) => format!("the same as {kept}"),
            };
            format!("  {}  {}  {why}", skipped.name, HumanBytes(skipped.bytes))
        }));
    }
    lines.push(String::new());
    if let Some(sidecar) = &summary.sidecar {
        lines.push(format!("would write the config to {}", sidecar.display()));
    }
    lines.push(format!("would write {}", report::volume(summary)));
    lines
}

/// A row for each tensor, and a heading for each of several files.
fn table(preview: &Preview) -> Vec<String> {
    let rows: Vec<[String; 5]> = preview.planned.iter().map(row).collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|cells| cells[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let [names, shapes, dtypes, sizes] = [0, 1, 2, 3].map(width);
    let names = names.min(WIDEST);
    let files = &preview.summary.files;
    let mut lines = Vec::new();
    let mut file = None;
    for ([name, shape, dtype, bytes, source], tensor) in rows.iter().zip(&preview.planned) {
        if files.len() > 1 && file != Some(tensor.file) {
            file = Some(tensor.file);
            let path = files
                .get(tensor.file)
                .map(|file| file.path.display().to_string());
            lines.push(path.unwrap_or_default());
        }
        let line = format!(
            "  {name:<names$}  {shape:<shapes$}  {dtype:<dtypes$}  {bytes:>sizes$}  {source}"
        );
        lines.push(line.trim_end().to_owned());
    }
    lines
}

fn row(tensor: &PreviewTensor) -> [String; 5] {
    let dtype = match tensor.source_dtype == tensor.dtype {
        true => tensor.dtype.to_string(),
        false => format!("{} -> {}", tensor.source_dtype, tensor.dtype),
    };
    let source = match tensor.source_name == tensor.name {
        true => String::new(),
        false => format!("<- {}", report::sanitise(&tensor.source_name)),
    };
    [
        report::sanitise(&tensor.name),
        format!("{:?}", tensor.shape),
        dtype,
        HumanBytes(tensor.bytes).to_string(),
        source,
    ]
}
