//! YAML, as far as lockfiles have it: no anchors, no aliases, no merged keys, no tags. What a short text could grow to
//! by them is therefore no question, and no package can hide in one.

use std::borrow::Cow;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

use super::LockfileError;
use super::node::{MAX_DEPTH, MAX_NODES, Node};

/// All documents of a text.
pub(crate) fn parse(text: &str) -> Result<Vec<Node<'_>>, LockfileError> {
    let mut tree = Tree::default();
    for event in Parser::new_from_str_with_options(text, options()) {
        let (event, span) = event.map_err(|error| refused(&error))?;
        tree.take(event, &span)?;
    }
    Ok(tree.documents)
}

fn options() -> Options {
    granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        disallow_directives: true,
        emit_comments: false,
    }
}

fn refused(error: &ScanError) -> LockfileError {
    syntax(error.marker().line(), error.info())
}

fn syntax(line: usize, problem: impl Into<String>) -> LockfileError {
    LockfileError::Syntax { format: "YAML", line, problem: problem.into() }
}

/// The trees of the documents, from the parser's events.
#[derive(Default)]
struct Tree<'a> {
    documents: Vec<Node<'a>>,
    /// Lists and objects that have not ended, outermost first.
    open: Vec<Open<'a>>,
    nodes: usize,
}

/// A list or object, and the key whose value is next.
struct Open<'a> {
    node: Node<'a>,
    key: Option<Cow<'a, str>>,
}

impl<'a> Tree<'a> {
    fn take(&mut self, event: Event<'a>, span: &Span) -> Result<(), LockfileError> {
        let line = span.start.line();
        match event {
            // What the parser gives for nothing at all, too.
            Event::Scalar(text, ScalarStyle::Plain, 0, None) if text == "~" => self.put(Node::Text("".into()), line),
            Event::Scalar(text, _, 0, None) => self.put(Node::Text(text), line),
            Event::SequenceStart(_, 0, None) => self.open(Node::List(Vec::new()), line),
            Event::MappingStart(_, 0, None) => self.open(Node::Map(Vec::new()), line),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { node, .. }) => self.put(node, line),
                None => Ok(()),
            },
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_) => {
                Err(syntax(line, "it has an anchor, an alias or a tag"))
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, node: Node<'a>, line: usize) -> Result<(), LockfileError> {
        // Lists and objects may be nested in turns, which the parser counts apart.
        if self.open.len() >= MAX_DEPTH {
            return Err(syntax(line, "it is nested too deep"));
        }
        self.open.push(Open { node, key: None });
        Ok(())
    }

    fn put(&mut self, value: Node<'a>, line: usize) -> Result<(), LockfileError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(LockfileError::TooManyEntries);
        }
        let Some(Open { node, key }) = self.open.last_mut() else {
            self.documents.push(value);
            return Ok(());
        };
        match (node, key.take(), value) {
            (Node::Map(pairs), Some(name), value) => pairs.push((name, value)),
            (Node::Map(_), None, Node::Text(name)) if name != "<<" => *key = Some(name),
            (Node::Map(_), None, _) => return Err(syntax(line, "a key is not a plain text")),
            (Node::List(nodes), _, value) => nodes.push(value),
            (Node::Text(_), _, _) => {}
        }
        Ok(())
    }
}
