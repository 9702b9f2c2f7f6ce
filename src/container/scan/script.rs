//! TorchScript source: whether `torch.jit.load`, to which `torch.load` hands such archives, runs any of it.

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
        if text.is_empty() || function.is_some_and(|function| indent > function) {
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

#[cfg(test)]
mod tests {
    use super::only_compiles;

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
        ] {
            assert!(!only_compiles(&source), "{source}");
        }
    }
}
