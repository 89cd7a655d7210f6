//! Where a part of a file stands.

use super::super::yaml::{Node, NodeKind};
use crate::model::finding::Span;

/// The beginning of a file.
pub(in crate::spec) const START: Span = Span { line: 1, column: 1, length: 0 };

/// Where a key of a mapping stands.
pub(super) fn key(node: &Node, name: &str) -> Option<Span> {
    let NodeKind::Map(entries) = &node.kind else { return None };
    entries.iter().find(|(key, _)| key.text == name).map(|(key, _)| key.span)
}

/// The node that a JSON pointer leads to, or the last one on the way that is there.
pub(super) fn node_at<'n>(root: &'n Node, pointer: &str) -> &'n Node {
    let mut node = root;
    for part in parts(pointer) {
        let inner = match &node.kind {
            NodeKind::Map(entries) => entries.iter().find(|(key, _)| key.text == part).map(|(_, inner)| inner),
            NodeKind::Seq(items) => part.parse::<usize>().ok().and_then(|at| items.get(at)),
            NodeKind::Scalar { .. } | NodeKind::Null { .. } => None,
        };
        let Some(inner) = inner else { break };
        node = inner;
    }
    node
}

/// The names and numbers of a JSON pointer.
pub(in crate::spec) fn parts(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}
