//! What the natives and the loop share.
use crate::{descriptors::Descriptors, signals::Signals};
use std::cell::{Cell, RefCell};

/// The state of the host. Natives and loop take turns on one thread; no borrow is held while the engine runs.
pub struct Machine {
    /// Sockets and pipes.
    pub descriptors: RefCell<Descriptors>,
    /// Signals that arrive as reads of a descriptor.
    pub signals: RefCell<Signals>,
    /// Bytes that went through since the heap was last trimmed.
    pub traffic: Cell<usize>,
    rejections: RefCell<Rejections>,
}

/// Promises that were rejected without anybody to hear of it.
#[derive(Default)]
struct Rejections {
    open: usize,
    first: Option<String>,
}

impl Machine {
    /// Takes over signals and descriptors of the process; once per process, before anything is spawned.
    pub fn new() -> Self {
        Self {
            descriptors: RefCell::new(Descriptors::new()),
            signals: RefCell::new(Signals::new()),
            // The start leaves garbage too: the first quiet second is for that.
            traffic: Cell::new(usize::MAX),
            rejections: RefCell::default(),
        }
    }

    /// Counts towards the next trim of the heap.
    pub fn count(&self, bytes: usize) {
        self.traffic.set(self.traffic.get().saturating_add(bytes));
    }

    /// A promise was rejected with no handler (`handled` false), or got its handler after all.
    pub fn rejected(&self, handled: bool, describe: impl FnOnce() -> String) {
        let mut rejections = self.rejections.borrow_mut();
        if handled {
            rejections.open = rejections.open.saturating_sub(1);
        } else {
            rejections.open += 1;
            rejections.first.get_or_insert_with(describe);
        }
        if rejections.open == 0 {
            rejections.first = None;
        }
    }

    /// The first rejection that still has no handler.
    pub fn unhandled_rejection(&self) -> Option<String> {
        self.rejections.borrow_mut().first.take()
    }
}
