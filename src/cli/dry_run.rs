//! `--dry-run`: what a conversion would do, as a table on stdout.

use ckpt2st::{Preview, PreviewTensor, Why};
use indicatif::HumanBytes;

use super::job::Job;
use super::report;

/// Longer names stand out of their column: one of them must not make all lines long.
const WIDEST: usize = 90;
/// The columns behind the name.
const COLUMNS: usize = 4;

/// The plan.
pub fn lines(job: &Job, preview: &Preview, verbose: bool) -> Vec<String> {
    let summary = &preview.summary;
    let mut lines = vec![report::title(job, summary)];
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
    let rows: Vec<(String, [String; COLUMNS])> = preview.planned.iter().map(row).collect();
    let width = |column: usize| {
        rows.iter()
            .map(|(_, cells)| cells[column].chars().count())
            .max()
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let names = rows.iter().map(|(name, _)| name.chars().count()).max();
    let names = names.unwrap_or(0).min(WIDEST);
    let files = &preview.summary.files;
    let mut lines = Vec::new();
    let mut file = None;
    for ((name, cells), tensor) in rows.iter().zip(&preview.planned) {
        if files.len() > 1 && file != Some(tensor.file) {
            file = Some(tensor.file);
            let path = files
                .get(tensor.file)
                .map(|file| file.path.display().to_string());
            lines.push(path.unwrap_or_default());
        }
        let [shape, dtype, bytes, source] = cells;
        let [shapes, dtypes, sizes, _] = widths;
        let line = format!(
            "  {name:<names$}  {shape:<shapes$}  {dtype:<dtypes$}  {bytes:>sizes$}  {source}"
        );
        lines.push(line.trim_end().to_owned());
    }
    lines
}

fn row(tensor: &PreviewTensor) -> (String, [String; COLUMNS]) {
    let dtype = match tensor.source_dtype == tensor.dtype {
        true => tensor.dtype.to_string(),
        false => format!("{} -> {}", tensor.source_dtype, tensor.dtype),
    };
    let source = match tensor.source_name == tensor.name {
        true => String::new(),
        false => format!("<- {}", report::sanitise(&tensor.source_name)),
    };
    let cells = [
        format!("{:?}", tensor.shape),
        dtype,
        HumanBytes(tensor.bytes).to_string(),
        source,
    ];
    (report::sanitise(&tensor.name), cells)
}
