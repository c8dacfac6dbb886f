//! The calculator in the midst of a reply: what stands between `<|python_start|>` and `<|python_end|>` is calculated, and the
//! answer is forced on the model between `<|output_start|>` and `<|output_end|>` (`RowState` in `nanochat/engine.py`).

use std::collections::VecDeque;

use super::calculator::calculate;
use crate::tokenizer::{Tokenizer, special};

/// Tokens of an expression at most; a longer one is not calculated.
const LONGEST_EXPRESSION: usize = 4096;

/// The tokens that a call consists of.
#[derive(Clone, Copy)]
pub(super) struct ToolIds<'t> {
    tokenizer: &'t Tokenizer,
    python: [u32; 2],
    output: [u32; 2],
}

impl<'t> ToolIds<'t> {
    /// Those of a tokenizer.
    pub(super) fn of(tokenizer: &'t Tokenizer) -> Option<Self> {
        let ids = |start, end| Some([tokenizer.special_id(start)?, tokenizer.special_id(end)?]);
        let python = ids(special::PYTHON_START, special::PYTHON_END)?;
        Some(Self { tokenizer, python, output: ids(special::OUTPUT_START, special::OUTPUT_END)? })
    }
}

/// Where a sample is in a call.
pub(super) struct Tool<'t> {
    ids: ToolIds<'t>,
    /// The expression so far, inside a call.
    expression: Option<Vec<u32>>,
    /// What is forced on the model next.
    forced: VecDeque<u32>,
}

impl<'t> Tool<'t> {
    pub(super) fn new(ids: ToolIds<'t>) -> Self {
        Self { ids, expression: None, forced: VecDeque::new() }
    }

    /// The next token, where it isn't the model's to choose.
    pub(super) fn forced(&mut self) -> Option<u32> {
        self.forced.pop_front()
    }

    /// Takes notice of a token, chosen or forced.
    pub(super) fn take(&mut self, id: u32) {
        let [start, end] = self.ids.python;
        if id == start {
            self.expression = Some(Vec::new());
        } else if id == end {
            let expression = self.expression.take().filter(|ids| !ids.is_empty() && ids.len() <= LONGEST_EXPRESSION);
            let answer = expression.and_then(|ids| calculate(&self.ids.tokenizer.decode(&ids)));
            if let Some(answer) = answer {
                let [open, close] = self.ids.output;
                self.forced.push_back(open);
                self.forced.extend(self.ids.tokenizer.encode(&answer));
                self.forced.push_back(close);
            }
        } else if let Some(expression) = &mut self.expression
            && expression.len() <= LONGEST_EXPRESSION
        {
            expression.push(id);
        }
    }
}
