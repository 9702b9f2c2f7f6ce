//! The tree of modules, in lines of a given width.

use std::collections::HashMap;

use ckpt2st::{InspectedTensor, Inspection};
use indicatif::HumanBytes;

use super::report::{count, sanitise};
use super::width::{columns, fit};

/// More lines than this are folded, unless all are asked for.
const MAX_LINES: usize = 200;
/// How many lines a folded tree may have.
const FOLDED: usize = 100;
/// Columns of the bar that shows a module's share.
const BAR: usize = 12;
/// Columns that a name keeps when there is hardly any room.
const MIN_NAME: usize = 12;

/// A module, or a tensor.
struct Node<'n> {
    label: &'n str,
    children: Vec<usize>,
    tensor: Option<&'n InspectedTensor>,
    tensors: usize,
    bytes: u64,
}

/// A line of the tree.
struct Row {
    level: usize,
    label: String,
    /// A tensor's dtype and shape, a module's number of tensors.
    what: String,
    bytes: u64,
    is_module: bool,
}

/// The lines of the tree, none wider than `width` columns: those of so many `levels`, or else all
/// if they are not too many, or else those of the deepest level that fits.
pub fn lines(found: &Inspection, levels: Option<usize>, width: usize) -> Vec<String> {
    let rows = rows(&nodes(&found.tensors));
    let below = |levels: usize| rows.iter().filter(|row| row.level < levels).count();
    let deepest = rows.iter().map(|row| row.level + 1).max().unwrap_or(0);
    let (levels, max) = match levels {
        Some(levels) => (levels, usize::MAX),
        None if rows.len() <= MAX_LINES => (deepest, usize::MAX),
        None => {
            let fits = (1..=deepest).rev().find(|levels| below(*levels) <= FOLDED);
            (fits.unwrap_or(1), FOLDED)
        }
    };
    let all_shown = below(levels);
    let shown = rows.iter().filter(|row| row.level < levels).take(max);
    let shown: Vec<&Row> = shown.collect();
    let mut lines = table(&shown, width, found.total.bytes);
    let hidden = rows.len() - shown.len();
    if hidden > 0 {
        let opens = match levels + 1 {
            deeper if all_shown == shown.len() && deeper < deepest => {
                format!("--depth {deeper} opens the next level, ")
            }
            _ => String::new(),
        };
        let hidden = count(hidden, "more line", "more lines");
        let rest = format!("  … {hidden} ({opens}-v lists all)");
        lines.push(fit(&rest, width));
    }
    lines
}

/// The tree: the top is the first node, children come in the file's order.
fn nodes(tensors: &[InspectedTensor]) -> Vec<Node<'_>> {
    let module = |label| Node {
        label,
        children: Vec::new(),
        tensor: None,
        tensors: 0,
        bytes: 0,
    };
    let mut nodes = vec![module("")];
    let mut known: HashMap<(usize, &str), usize> = HashMap::new();
    for tensor in tensors {
        let (modules, last) = tensor.name.rsplit_once('.').unwrap_or(("", &tensor.name));
        let mut at = 0;
        let mut path = vec![0];
        for label in modules.split('.').filter(|_| tensor.name.contains('.')) {
            let next = nodes.len();
            let index = *known.entry((at, label)).or_insert(next);
            if index == next {
                nodes.push(module(label));
                nodes[at].children.push(index);
            }
            at = index;
            path.push(at);
        }
        for index in path {
            nodes[index].tensors += 1;
            nodes[index].bytes = nodes[index].bytes.saturating_add(tensor.bytes);
        }
        let leaf = nodes.len();
        nodes[at].children.push(leaf);
        nodes.push(Node {
            tensor: Some(tensor),
            bytes: tensor.bytes,
            tensors: 1,
            ..module(last)
        });
    }
    nodes
}

/// The nodes below the top as lines; a module whose only child is a module shares its line.
fn rows(nodes: &[Node]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut todo: Vec<(usize, usize)> = nodes[0].children.iter().rev().map(|id| (*id, 0)).collect();
    while let Some((mut id, level)) = todo.pop() {
        let mut label = sanitise(nodes[id].label);
        while let [only] = nodes[id].children[..]
            && nodes[only].tensor.is_none()
        {
            id = only;
            label.push('.');
            label.push_str(&sanitise(nodes[id].label));
        }
        let node = &nodes[id];
        let what = match node.tensor {
            Some(tensor) => describe(tensor),
            None => count(node.tensors, "tensor", "tensors"),
        };
        rows.push(Row {
            level,
            label,
            what,
            bytes: node.bytes,
            is_module: node.tensor.is_none(),
        });
        let children = node.children.iter().rev();
        todo.extend(children.map(|id| (*id, level + 1)));
    }
    rows
}

fn describe(tensor: &InspectedTensor) -> String {
    let Some(dtype) = &tensor.dtype else {
        let reason = tensor.refused.as_deref().unwrap_or_default();
        return sanitise(&format!("cannot be written: {reason}"));
    };
    let sizes: Vec<String> = tensor.shape.iter().flatten().map(u64::to_string).collect();
    let refused = if tensor.refused.is_some() { " !" } else { "" };
    format!("{dtype} [{}]{refused}", sizes.join(", "))
}

/// Rows in columns. The names have what the others leave: first the bar goes, then the description
/// is cut.
fn table(rows: &[&Row], width: usize, total: u64) -> Vec<String> {
    let widest = |of: &dyn Fn(&Row) -> usize| rows.iter().map(|row| of(row)).max().unwrap_or(0);
    let names = 2 + widest(&|row| 2 * row.level + columns(&row.label));
    let whats = widest(&|row| columns(&row.what)).min(40);
    let sizes = widest(&|row| columns(&HumanBytes(row.bytes).to_string()));
    let fixed = whats + sizes + 4;
    let has_bar = fixed + BAR + 2 + names.min(30) <= width;
    let fixed = if has_bar { fixed + BAR + 2 } else { fixed };
    let names = names.min(width.saturating_sub(fixed).max(MIN_NAME));
    let line = |row: &&Row| {
        let indent = " ".repeat((2 + 2 * row.level).min(names.saturating_sub(6)));
        let name = pad(fit(&format!("{indent}{}", row.label), names), names);
        let what = pad(fit(&row.what, whats), whats);
        let bytes = HumanBytes(row.bytes).to_string();
        let bar = match row.is_module && has_bar {
            true => bar(row.bytes, total),
            false => String::new(),
        };
        let line = format!("{name}  {what}  {bytes:>sizes$}  {bar}");
        fit(line.trim_end(), width)
    };
    rows.iter().map(line).collect()
}

/// A bar that shows a share in eighths of a column.
fn bar(part: u64, whole: u64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let share = part as f64 / whole.max(1) as f64;
    let filled = (share * (8 * BAR) as f64).round() as usize;
    let filled = filled.max(usize::from(part > 0)).min(8 * BAR);
    format!("{}{}", "█".repeat(filled / 8), EIGHTHS[filled % 8])
}

fn pad(mut text: String, width: usize) -> String {
    let missing = width.saturating_sub(columns(&text));
    text.push_str(&" ".repeat(missing));
    text
}
