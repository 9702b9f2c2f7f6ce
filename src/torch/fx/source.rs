//! The grammar of the Python source that `torch.fx` generates (torch/fx/graph.py, `CodeGen._gen_python_code`).
//!
//! A variable of such code is only ever the result of a calculation or an attribute of the module. Functions and
//! classes are called where they are named, so that no variable holds one. What the grammar does not know is refused.

use std::collections::HashSet;

use super::lexer::{Token, tokens};
use super::names::{
    ASSIGNMENTS, ATTRIBUTES, BUILTINS, CONSTANTS, OPERATORS, TYPES, VALUES, is_function,
    is_operation,
};
use super::scope::Scope;

/// An attribute of the module itself, as in `self.encoder.weight`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path<'s> {
    pub parts: Vec<&'s str>,
    /// Whether it is called, as a sub-module is.
    pub is_called: bool,
}

/// The attributes of the module that generated code uses; `None` for code that `torch.fx` would not generate.
pub fn paths(source: &str) -> Option<HashSet<Path<'_>>> {
    let mut scope = Scope::default();
    let mut paths = HashSet::new();
    let mut lines = source.split('\n').map(|line| line.trim_end_matches(' '));
    let header = loop {
        match lines.next()? {
            "" => {}
            line if line.starts_with("def ") => break line,
            line => scope.import(line)?,
        }
    };
    Line::read(header, &mut scope, &mut paths)?.header()?;
    for line in lines.filter(|line| !line.is_empty()) {
        let statements = line.strip_prefix("    ")?;
        if statements.starts_with(' ') {
            return None;
        }
        Line::read(statements, &mut scope, &mut paths)?.statements()?;
    }
    Some(paths)
}

/// Brackets are not nested deeper.
const MAX_DEPTH: usize = 64;

/// A line of code, read from left to right. What fails to be read is not generated code.
struct Line<'s, 'n> {
    tokens: Vec<Token<'s>>,
    /// Index of the next token.
    at: usize,
    depth: usize,
    scope: &'n mut Scope<'s>,
    /// What it uses of the module.
    paths: &'n mut HashSet<Path<'s>>,
}

impl<'s, 'n> Line<'s, 'n> {
    fn read(
        line: &'s str,
        scope: &'n mut Scope<'s>,
        paths: &'n mut HashSet<Path<'s>>,
    ) -> Option<Line<'s, 'n>> {
        Some(Line {
            tokens: tokens(line)?,
            at: 0,
            depth: 0,
            scope,
            paths,
        })
    }

    fn peek(&self) -> Option<Token<'s>> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<Token<'s>> {
        let token = self.peek()?;
        self.at = self.at.saturating_add(1);
        Some(token)
    }

    fn end(&self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    fn takes(&mut self, wanted: Token) -> bool {
        let is_wanted = self.peek() == Some(wanted);
        self.at = self.at.saturating_add(usize::from(is_wanted));
        is_wanted
    }

    fn takes_sign(&mut self, sign: &str) -> bool {
        self.takes(Token::Sign(sign))
    }

    fn takes_one_of(&mut self, signs: &[&str]) -> bool {
        signs.iter().any(|sign| self.takes_sign(sign))
    }

    /// A name and an equals sign.
    fn takes_target(&mut self) -> Option<&'s str> {
        let ahead = self.tokens.get(self.at..self.at.saturating_add(2))?;
        let [Token::Name(name), Token::Sign("=")] = *ahead else {
            return None;
        };
        self.at = self.at.saturating_add(2);
        Some(name)
    }

    fn sign(&mut self, sign: &str) -> Option<()> {
        self.takes_sign(sign).then_some(())
    }

    fn name(&mut self) -> Option<&'s str> {
        match self.next()? {
            Token::Name(name) => Some(name),
            _ => None,
        }
    }

    /// `def forward(self, x : torch.Tensor, scale = 1.0) -> torch.Tensor:`
    fn header(&mut self) -> Option<()> {
        let start = [
            Token::Name("def"),
            Token::Name("forward"),
            Token::Sign("("),
            Token::Name("self"),
        ];
        start
            .into_iter()
            .all(|token| self.takes(token))
            .then_some(())?;
        let mut arguments = Vec::new();
        while self.takes_sign(",") {
            let _ = self.takes_one_of(&["*", "**"]);
            arguments.push(self.name()?);
            if self.takes_sign(":") {
                self.annotation()?;
            }
            if self.takes_sign("=") {
                self.expression()?;
            }
        }
        self.sign(")")?;
        if self.takes_sign("->") {
            self.annotation()?;
        }
        self.sign(":")?;
        // Only now, because a default cannot use them.
        arguments
            .into_iter()
            .try_for_each(|name| self.scope.assign(name))?;
        self.end()
    }

    /// `torch.Tensor`, `typing_Dict[str,torch.Tensor]`
    fn annotation(&mut self) -> Option<()> {
        self.deeper(|line| {
            if line.takes_sign("(") {
                return line.sign(")");
            }
            match line.name()? {
                "torch" => {
                    line.sign(".")?;
                    matches!(line.name()?, "Size" | "Tensor" | "device" | "dtype").then_some(())?;
                }
                name => {
                    (TYPES.contains(&name) || line.scope.imported.contains(name)).then_some(())?
                }
            }
            match line.takes_sign("[") {
                true => line.items("]", Line::annotation),
                false => Some(()),
            }
        })
    }

    /// `add = x + y;  x = y = None`
    fn statements(&mut self) -> Option<()> {
        loop {
            self.statement()?;
            if !self.takes_sign(";") {
                return self.end();
            }
        }
    }

    fn statement(&mut self) -> Option<()> {
        match self.name()? {
            "return" => self.expression(),
            "pass" => Some(()),
            name => self.assignment(name),
        }
    }

    fn assignment(&mut self, name: &'s str) -> Option<()> {
        let is_variable = self.scope.variables.contains(name);
        if is_variable && self.takes_one_of(ASSIGNMENTS) {
            return self.expression();
        }
        if is_variable && self.takes_sign("[") {
            self.expression()?;
            self.sign("]")?;
            self.sign("=")?;
            return self.expression();
        }
        let mut assigned = vec![name];
        if self.takes_sign(":") {
            self.annotation()?;
        }
        self.sign("=")?;
        // `x = y = None`
        while let Some(next) = self.takes_target() {
            assigned.push(next);
        }
        self.expression()?;
        assigned
            .into_iter()
            .try_for_each(|name| self.scope.assign(name))
    }

    fn expression(&mut self) -> Option<()> {
        self.deeper(|line| {
            loop {
                while line.takes_one_of(&["+", "-", "~"]) {}
                line.operand()?;
                if !line.takes_one_of(OPERATORS) {
                    return Some(());
                }
            }
        })
    }

    fn operand(&mut self) -> Option<()> {
        match self.next()? {
            Token::Number | Token::Text(_) => Some(()),
            Token::Sign("(") => self.items(")", Line::expression),
            Token::Sign("[") => self.items("]", Line::expression),
            Token::Sign("{") => self.items("}", |line| {
                line.expression()?;
                line.sign(":")?;
                line.expression()
            }),
            Token::Sign(_) => None,
            Token::Name("self") => self.path(vec![]),
            Token::Name("getattr") => self.getattr(),
            Token::Name("torch") => self.torch(),
            Token::Name(name) if VALUES.contains(&name) => Some(()),
            Token::Name(name) if self.scope.variables.contains(name) => self.variable(),
            Token::Name(name) if BUILTINS.contains(&name) || self.scope.imported.contains(name) => {
                self.call()
            }
            Token::Name(_) => None,
        }
    }

    /// What follows a variable: `x.shape`, `x.view(2, -1)`, `x[0]`, or nothing.
    fn variable(&mut self) -> Option<()> {
        if self.takes_sign("[") {
            self.expression()?;
            return self.sign("]");
        }
        if !self.takes_sign(".") {
            return Some(());
        }
        let name = self.name()?;
        match self.peek() {
            Some(Token::Sign("(")) if is_operation(name) => self.call(),
            Some(Token::Sign("(")) => None,
            _ => ATTRIBUTES.contains(&name).then_some(()),
        }
    }

    /// What follows `torch`: a function that is called, or a constant.
    fn torch(&mut self) -> Option<()> {
        let mut path = "torch".to_owned();
        while self.takes_sign(".") {
            path.push('.');
            path.push_str(self.name()?);
        }
        match self.peek() {
            Some(Token::Sign("(")) if is_function(&path) => self.call(),
            Some(Token::Sign("(")) => None,
            _ => CONSTANTS
                .contains(&path.strip_prefix("torch.")?)
                .then_some(()),
        }
    }

    /// What follows `getattr`, and what follows that.
    fn getattr(&mut self) -> Option<()> {
        match self.owner()? {
            Some(parts) => self.path(parts),
            None => Some(()),
        }
    }

    /// `(self.layers, "0")` behind `getattr`: the path, or `None` for an attribute of a variable.
    #[allow(clippy::option_option)]
    fn owner(&mut self) -> Option<Option<Vec<&'s str>>> {
        self.deeper(|line| {
            line.sign("(")?;
            let mut parts = match line.name()? {
                "self" => Some(vec![]),
                "getattr" => Some(line.owner()??),
                name => line.scope.variables.contains(name).then_some(None)?,
            };
            if let Some(parts) = &mut parts {
                line.parts(parts)?;
            }
            line.sign(",")?;
            let Token::Text(name) = line.next()? else {
                return None;
            };
            line.sign(")")?;
            match &mut parts {
                Some(parts) => parts.push(name),
                None => ATTRIBUTES.contains(&name).then_some(())?,
            }
            Some(parts)
        })
    }

    fn parts(&mut self, parts: &mut Vec<&'s str>) -> Option<()> {
        while self.takes_sign(".") {
            parts.push(self.name()?);
        }
        Some(())
    }

    /// The rest of an attribute of the module, which may be called.
    fn path(&mut self, mut parts: Vec<&'s str>) -> Option<()> {
        self.parts(&mut parts)?;
        let is_called = self.peek() == Some(Token::Sign("("));
        if parts.is_empty() {
            return None;
        }
        self.paths.insert(Path { parts, is_called });
        match is_called {
            true => self.call(),
            false => Some(()),
        }
    }

    /// `(x, 2, dim = 1)`
    fn call(&mut self) -> Option<()> {
        self.sign("(")?;
        self.items(")", |line| {
            let _ = line.takes_target();
            line.expression()
        })
    }

    /// Items with commas between, up to a closing bracket.
    fn items(&mut self, end: &str, item: impl Fn(&mut Self) -> Option<()>) -> Option<()> {
        while !self.takes_sign(end) {
            item(self)?;
            if !self.takes_sign(",") {
                return self.sign(end);
            }
        }
        Some(())
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth = self
            .depth
            .checked_add(1)
            .filter(|depth| *depth <= MAX_DEPTH)?;
        let read = read(self);
        self.depth = self.depth.saturating_sub(1);
        read
    }
}
