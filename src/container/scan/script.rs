//! Source in archives: of TorchScript, which `torch.load` hands to `torch.jit.load`, and formulas of exported programs.

/// Whether loading source as TorchScript prints it (torch/csrc/jit/serialization/python_print.cpp) runs nothing.
///
/// The compiler runs `__setstate__` of classes, default values of parameters and values of class attributes, and
/// TorchScript can write files (`torch.save`). So classes have no such method, and neither their lines nor the heads of
/// functions have a call; bodies of functions are compiled only. Source in any other form may run something.
pub fn only_compiles(source: &str) -> bool {
    let is_odd =
        |text: &str| text.contains('\t') || text.contains("\"\"\"") || text.contains("'''");
    if is_odd(source) || source.contains("__setstate__") {
        return false;
    }
    let mut lines = source.lines();
    // The indentation of the function that the lines are in.
    let mut function: Option<usize> = None;
    while let Some(line) = lines.next() {
        let text = line.trim_start_matches(' ');
        let indent = line.len().saturating_sub(text.len());
        if text.is_empty() {
            continue;
        }
        if function.is_some_and(|function| indent > function) {
            // Defaults of a function in a function run when the outer one is compiled; torch prints no such.
            let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(|word| word == "def") {
                return false;
            }
            continue;
        }
        function = None;
        if text.starts_with("def ") {
            let mut head = text.to_owned();
            while opened(&head) > 0 {
                let Some(more) = lines.next() else {
                    return false;
                };
                head.push_str(more);
            }
            // Brackets in comments and texts are none.
            let is_plain = !head.contains(['#', '"', '\'', '\\']);
            if !is_plain || !head.ends_with(':') || calls_in_defaults(&head) {
                return false;
            }
            function = Some(indent);
        } else if !text.starts_with("class ")
            && (text.contains(['(', '#', '\\']) || opened(text) != 0)
        {
            return false;
        }
    }
    true
}

/// How many brackets of a text are open at its end.
fn opened(text: &str) -> i64 {
    let count = |brackets: [char; 3]| i64::try_from(text.matches(brackets).count()).unwrap_or(0);
    count(['(', '[', '{']).saturating_sub(count([')', ']', '}']))
}

/// Whether a value in the head of a function may be a call.
fn calls_in_defaults(head: &str) -> bool {
    let defaults = head.split_once('=');
    defaults.is_some_and(|(_, defaults)| defaults.contains('('))
}

/// Whether the JSON of an exported program has only formulas in the form that torch prints. `torch.export.load` hands
/// `expr_str` to sympy, which evaluates any Python (torch/_export/serde/serialize.py, `deserialize_sym_int`), and the
/// module of the program runs its `guards_code` (torch/export/_unlift.py).
pub fn only_computes(program: &[u8]) -> bool {
    serde_json::from_slice(program).is_ok_and(|program| has_plain_formulas(&program, false))
}

fn has_plain_formulas(value: &serde_json::Value, is_formula: bool) -> bool {
    use serde_json::Value::{Array, Object, String};
    match value {
        String(text) => !is_formula || is_plain_formula(text),
        Array(items) => items
            .iter()
            .all(|item| has_plain_formulas(item, is_formula)),
        Object(pairs) => pairs.iter().all(|(key, value)| {
            let is_formula = is_formula || key == "expr_str" || key == "guards_code";
            has_plain_formulas(value, is_formula)
        }),
        _ => true,
    }
}

/// What formulas call: classes of sympy and of torch.utils._sympy.functions, and sizes of tensors.
const CALLS: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "CeilDiv",
    "CeilToInt",
    "CleanDiv",
    "Eq",
    "Float",
    "FloatPow",
    "FloatTrueDiv",
    "FloorDiv",
    "FloorToInt",
    "Ge",
    "Gt",
    "Integer",
    "IntTrueDiv",
    "Le",
    "Lt",
    "Max",
    "Min",
    "Mod",
    "ModularIndexing",
    "Mul",
    "Ne",
    "Not",
    "Or",
    "Pow",
    "PowByNatural",
    "PythonMod",
    "Rational",
    "RoundToInt",
    "Symbol",
    "ToFloat",
    "TruncToInt",
    "Where",
    "size",
    "storage_offset",
    "stride",
];

/// Whether a text has numbers, names, operators, quoted names and those calls only.
fn is_plain_formula(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = match first {
            '\'' => rest.get(1..).and_then(|quoted| {
                quoted
                    .trim_start_matches(|c| is_word(c) || c == '.')
                    .strip_prefix('\'')
            }),
            c if is_word(c) => {
                let after = rest.trim_start_matches(is_word);
                let word = rest.strip_suffix(after).unwrap_or(rest);
                let is_called = after.trim_start().starts_with('(');
                let is_plain = !word.contains("__") && (!is_called || CALLS.contains(&word));
                is_plain.then_some(after)
            }
            // `.size()` reads an attribute, and has to be called.
            '.' => rest.get(1..).filter(|after| {
                after.starts_with(|c: char| c.is_ascii_digit() || c == ' ')
                    || CALLS.iter().any(|call| {
                        after
                            .strip_prefix(call)
                            .is_some_and(|end| end.starts_with('('))
                    })
            }),
            // The result of a call or of an index must not be called.
            ')' | ']' => rest
                .get(1..)
                .filter(|after| !after.trim_start().starts_with('(')),
            ' ' | '(' | '[' | ',' | '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '!' | '&'
            | '|' | '~' => rest.get(1..),
            _ => None,
        };
        match after {
            Some(after) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{only_compiles, only_computes};

    #[test]
    fn only_source_in_the_form_that_torch_prints_is_known_to_run_nothing() {
        let class = "class M(Module):\n  __parameters__ = [\"w\", ]\n  w : Tensor\n";
        let method = "  def forward(self: __torch__.M,\n    x: Tensor,\n    n: int=1) -> Tensor:\n    return torch.save(x, \"f\")\n";
        assert!(only_compiles(&[class, method].concat()));
        assert!(only_compiles(
            "def relu(x: Tensor) -> Tensor:\n  y = torch.relu(x)\n  return y\n"
        ));
        // torch 2.15 writes the file when it loads any of these.
        let call = "torch.save(\"x\", \"f\")";
        for source in [
            format!("{class}  def __setstate__(self, s: int) -> NoneType:\n    {call}\n"),
            format!("{class}  def forward(self, x: int=({call}, 1)[1]) -> int:\n    return x\n"),
            format!(
                "{class}  def forward(self,\n x: int=({call},\n 1)[1]) -> int:\n    return x\n"
            ),
            format!("{class}  n : Final[int] = {call}\n"),
            format!("{class}  n : Final[List[int]] = [\n{call}]\n"),
            format!("def f(x: int) -> int: return {call}\n"),
            format!(
                "def f(x: int) -> int:\n  def g(y: int={call}) -> int:\n    return y\n  return x\n"
            ),
        ] {
            assert!(!only_compiles(&source), "{source}");
        }
    }

    #[test]
    fn formulas_of_exported_programs_call_only_what_torch_prints() {
        let program = |formula: &str| {
            let text = serde_json::json!({"a": [{"as_expr": {"expr_str": formula, "hint": null}}]});
            only_computes(text.to_string().as_bytes())
        };
        assert!(program(
            "Add(FloorDiv(Symbol('s77', positive=True, integer=True), Integer(2)), Integer(1))"
        ));
        assert!(program("((L['x'].size()[1]) % 2) != 1"));
        assert!(program("s0*s1//2 + 1.5"));
        for formula in [
            "__import__('os').system('true')",
            "preview(1, viewer='file')",
            "Symbol('a').func.mro",
            "Symbol('a b')",
            "(Symbol)('x')('y')",
            "open ('f')",
            "size.stride",
            "\u{ff45}val('1')",
        ] {
            assert!(!program(formula), "{formula}");
        }
        let hidden = br#"{"\u0065xpr_str": "exit()"}"#;
        assert!(!only_computes(hidden));
        assert!(only_computes(
            br#"{"target": "torch.ops.aten.add.Tensor()"}"#
        ));
        assert!(!only_computes(br#"{"guards_code": ["exit()"]}"#));
    }
}
