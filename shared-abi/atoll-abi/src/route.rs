//! The interrupt route table: what may be raised, by whom, and where it goes.
//!
//! The broker writes it before the machine starts; the worker raises only what a row names, and a seat that raises
//! anything else is faulted. The row's number is the [`LineId`](crate::LineId).

use crate::layout::{layout, numbered};
use crate::{PAGE, PeerId, WireError};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64};

/// `"ATLROUTE"`, little-endian.
pub const ROUTE_MAGIC: u64 = u64::from_le_bytes(*b"ATLROUTE");
/// Rows in the page.
pub const ROUTES: usize = 127;

numbered! {
    /// How a row's interrupt reaches the CPU.
    pub enum RouteKind: u32 as "route kind" {
        /// The row is free.
        Unused = 0,
        /// A level-triggered line into a controller input.
        Level = 1,
        /// An edge-triggered line into a controller input.
        Edge = 2,
        /// Message-signalled: the guest programs address and vector, the row only permits it.
        Msi = 3,
    }
}

/// A row, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub kind: RouteKind,
    /// The place of the device in the machine file.
    pub device: u16,
    /// The device's own number of this line or vector.
    pub source: u16,
    /// Controller input (GSI) of a line.
    pub input: u32,
    /// The peer that may raise it; the worker itself for models in worker seats.
    pub owner: PeerId,
}

#[derive(Debug)]
#[repr(C)]
pub struct RouteRow {
    kind: AtomicU32,
    input: AtomicU32,
    source: AtomicU64,
    owner: AtomicU64,
    _pad: [u8; 8],
}

const _: () = assert!(size_of::<RouteRow>() == 32);

layout!(RouteRow {
    kind: "see RouteKind; stored last",
    input: "controller input (GSI) of a line",
    source: "bits 0-15 device, bits 16-31 line or vector of that device",
    owner: "peer that may raise it: bits 0-15 index, bits 32-63 generation",
});

#[derive(Debug)]
#[repr(C, align(64))]
pub struct RouteTable {
    magic: AtomicU64,
    _pad: [u8; 24],
    rows: [RouteRow; ROUTES],
}

const _: () = assert!(size_of::<RouteTable>() == PAGE);

layout!(RouteTable {
    magic: "\"ATLROUTE\", stored last",
    rows: "127 rows; the row number is the LineId"
});

impl RouteTable {
    /// Broker: the table, complete, before anybody reads it.
    pub fn init(&self, routes: &[Route]) {
        for (row, route) in self.rows.iter().zip(routes) {
            row.store(route);
        }
        self.magic.store(ROUTE_MAGIC, Release);
    }

    /// Broker: another row, or another owner after a restart.
    pub fn set(&self, line: crate::LineId, route: &Route) {
        if let Some(row) = self.rows.get(usize::from(line.0)) {
            row.store(route);
        }
    }

    /// The row, if it is in use.
    pub fn get(&self, line: crate::LineId) -> Result<Route, WireError> {
        let bad = WireError::BadValue {
            field: "line",
            value: u64::from(line.0),
        };
        let route = self.rows.get(usize::from(line.0)).ok_or(bad)?.load()?;
        if route.kind == RouteKind::Unused {
            Err(bad)
        } else {
            Ok(route)
        }
    }

    /// All rows in use, with their numbers.
    pub fn routes(&self) -> Result<Vec<(crate::LineId, Route)>, WireError> {
        let found = self.magic.load(Acquire);
        if found != ROUTE_MAGIC {
            return Err(WireError::BadMagic {
                expected: ROUTE_MAGIC,
                found,
            });
        }
        let mut routes = Vec::new();
        for (i, row) in self.rows.iter().enumerate() {
            let route = row.load()?;
            if route.kind != RouteKind::Unused {
                routes.push((crate::LineId(i as u16), route));
            }
        }
        Ok(routes)
    }
}

impl RouteRow {
    fn store(&self, route: &Route) {
        self.input.store(route.input, Relaxed);
        self.source.store(
            u64::from(route.source) << 16 | u64::from(route.device),
            Relaxed,
        );
        self.owner.store(
            u64::from(route.owner.generation) << 32 | u64::from(route.owner.index),
            Relaxed,
        );
        self.kind.store(route.kind.number(), Release);
    }

    fn load(&self) -> Result<Route, WireError> {
        let kind = RouteKind::try_from(self.kind.load(Acquire))?;
        let (source, owner) = (self.source.load(Relaxed), self.owner.load(Relaxed));
        Ok(Route {
            kind,
            device: source as u16,
            source: (source >> 16) as u16,
            input: self.input.load(Relaxed),
            owner: PeerId::new(owner as u16, (owner >> 32) as u32),
        })
    }
}
