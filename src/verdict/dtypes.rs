//! The states of numpy's dtypes (numpy/core/src/multiarray/descriptor.c, `arraydescr_setstate`). numpy takes their
//! sizes, offsets and flags as they are, so that a false one makes objects of bytes.

use crate::pickle::{Graph, Object, Value, ValueId};

/// What a call of `numpy.dtype` and its state give.
pub enum Dtype {
    /// A type without fields, as numpy writes it.
    Plain,
    /// One with fields, or of arrays.
    Structured,
    /// One that numpy does not write.
    Odd,
}

/// NPY_OBJECT_DTYPE_FLAGS and NPY_NEEDS_INIT (numpy/ndarraytypes.h).
const OBJECT: i64 = 63;
const NEEDS_INIT: i64 = 8;

/// The largest element that is believed: sums of sizes are C ints.
const MAX_SIZE: i64 = 1 << 24;

/// Looks at the dtype that a call makes.
pub fn of(graph: &Graph, object: &Object) -> Dtype {
    let kind = graph.tuple(object.args).and_then(|args| args.first());
    let Some(kind) = kind.map(|kind| graph.get(*kind)) else {
        return Dtype::Odd;
    };
    let kind = match kind {
        Value::Str(text) => kind_of(text),
        // A class, as `numpy.float32`.
        Value::Global(_) if object.state().is_none() => return Dtype::Plain,
        _ => return Dtype::Structured,
    };
    let state = object.state().map(|state| graph.tuple(state));
    let (kind, state) = match (kind, state) {
        (Some(_), None) => return Dtype::Plain,
        (None, None) => return Dtype::Structured,
        (Some(kind), Some(Some(state))) => (kind, state),
        _ => return Dtype::Odd,
    };
    let [
        _,
        order,
        base,
        names,
        fields,
        size,
        alignment,
        flags,
        rest @ ..,
    ] = state
    else {
        return Dtype::Odd;
    };
    let is_none = |id: &ValueId| graph.get(*id) == Value::None;
    if ![base, names, fields].into_iter().all(is_none) {
        return Dtype::Structured;
    }
    let number = |id: &ValueId| match graph.get(*id) {
        Value::Int(number) => Some(number),
        _ => None,
    };
    let (Some(size), Some(_), Some(flags)) = (number(size), number(alignment), number(flags))
    else {
        return Dtype::Odd;
    };
    let is_sized = matches!(kind, 'S' | 'U' | 'V' | 'a');
    let fits = if is_sized {
        (0..MAX_SIZE).contains(&size)
    } else {
        size == -1
    };
    // Of one byte, and of addresses, nothing is swapped.
    let is_whole = graph
        .str(*order)
        .is_some_and(|order| order == "|" || !matches!(kind, 'O' | 'S' | 'V' | 'a'));
    let is_flagged = match kind {
        'O' => flags == OBJECT,
        _ => [0, NEEDS_INIT].contains(&flags),
    };
    // Metadata; of dates the unit.
    let is_plain = rest.len() <= 1 && (matches!(kind, 'M' | 'm') || rest.iter().all(is_none));
    match is_whole && fits && is_flagged && is_plain {
        true => Dtype::Plain,
        false => Dtype::Odd,
    }
}

/// The letter of a type such as `<f4`; `None` for several in one text.
fn kind_of(text: &str) -> Option<char> {
    let text = text.trim_start_matches(['<', '>', '=', '|']);
    let mut letters = text.chars();
    let kind = letters.next()?;
    letters
        .all(|letter| letter.is_ascii_digit())
        .then_some(kind)
}
