//! The links of a region: its direct edges to other code, through memory that emitted code reads and the engine patches.

use crate::plan::Plan;
use crate::thunks;

/// A direct edge between regions. While nothing is linked, `code` is the thunk that leaves.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Link {
    pub(crate) code: usize,
    pub(crate) entry: u64,
}

/// One for each place outside of a plan that control goes to statically.
#[derive(Debug)]
pub(crate) struct Links {
    /// Sorted.
    places: Vec<i64>,
    links: Box<[Link]>,
}

impl Link {
    /// It leads nowhere yet.
    pub(crate) fn unlinked() -> Link {
        Link {
            code: thunks::unlinked as *const () as usize,
            entry: 0,
        }
    }
}

impl Links {
    pub(crate) fn new(plan: &Plan) -> Links {
        let places = plan.outs();
        Links {
            links: vec![Link::unlinked(); places.len()].into(),
            places,
        }
    }

    /// The address of the link to a place, which holds as long as the links do.
    ///
    /// # Panics
    /// If no edge of the plan goes there.
    pub(crate) fn address(&self, at: i64) -> usize {
        let i = self.places.binary_search(&at);
        &raw const self.links[i.expect("an edge out of the plan")] as usize
    }

    /// Without their places, which only emitting needs.
    pub(crate) fn finish(self) -> Box<[Link]> {
        self.links
    }
}
