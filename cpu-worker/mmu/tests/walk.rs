//! The MMU against a naive model of 4-level paging, and the rules of its TLB.

use atoll_mmu::{Changes, DATA_ENTRIES, MemStop, Mmu, PagingRegs, Ram};
use proptest::prelude::*;

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const NX: u64 = 1 << 63;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
const PT: u64 = 0x4000;
const VA: u64 = 0x0000_0040_0020_3000;

fn regs(user: bool, wp: bool, smap: bool, ac: bool, smep: bool) -> PagingRegs {
    let bit = |on: bool, b: u32| u64::from(on) << b;
    PagingRegs {
        cr0: 1 << 31 | 1 | bit(wp, 16),
        cr3: PML4,
        cr4: 1 << 5 | 1 << 7 | bit(smep, 20) | bit(smap, 21),
        efer: 1 << 10 | 1 << 11 | 1 << 8,
        user,
        ac,
        long: true,
        flat: true,
        ..PagingRegs::default()
    }
}

/// Tables that lead [`VA`] to `page` with these entries' rights.
fn machine(entries: [u64; 4], large: bool) -> Mmu {
    let ram = Ram::anonymous(4 << 20);
    let index = |shift: u32| (VA >> shift & 511) * 8;
    ram.write_uint(PML4 + index(39), 8, PDPT | entries[0]);
    ram.write_uint(PDPT + index(30), 8, PD | entries[1]);
    if large {
        ram.write_uint(PD + index(21), 8, 0x20_0000 | PS | entries[2]);
    } else {
        ram.write_uint(PD + index(21), 8, PT | entries[2]);
        ram.write_uint(PT + index(12), 8, 0x10_0000 | entries[3]);
    }
    Mmu::new(ram)
}

fn entry() -> impl Strategy<Value = u64> {
    (0..16u64, any::<bool>(), any::<bool>()).prop_map(|(bits, nx, d)| {
        let mostly = |on: bool, b: u64| if on { b } else { 0 };
        mostly(bits != 0, P)
            | mostly(bits & 3 != 0, RW)
            | mostly(bits & 12 != 0, US)
            | mostly(nx && bits > 8, NX)
            | mostly(d, D)
    })
}

/// What SDM vol. 3A, 4.6 says of an access: Err is the page fault's code.
fn model(e: &[u64], r: &PagingRegs, write: bool, fetch: bool) -> Result<(), u32> {
    let code = |p: u32| p | u32::from(write) << 1 | u32::from(r.user) << 2 | u32::from(fetch) << 4;
    for x in e {
        if x & P == 0 {
            return Err(code(0));
        }
    }
    let all = |b: u64| e.iter().all(|x| x & b != 0);
    let user_page = all(US);
    let nx = e.iter().any(|x| x & NX != 0);
    let cr4 = |b: u32| r.cr4 >> b & 1 != 0;
    let ok = if fetch {
        !nx && (if r.user {
            user_page
        } else {
            !(user_page && cr4(20))
        })
    } else {
        let reach = if r.user {
            user_page
        } else {
            !(user_page && cr4(21) && !r.ac)
        };
        let wp = r.user || r.cr0 >> 16 & 1 != 0;
        reach && (!write || all(RW) || !wp)
    };
    if ok { Ok(()) } else { Err(code(1)) }
}

proptest! {
    #[test]
    fn permissions_and_error_codes_follow_the_manual(
        e in prop::array::uniform4(entry()), large: bool, user: bool, wp: bool, smap: bool, ac: bool, smep: bool, kind in 0..3,
    ) {
        let used = if large { &e[..3] } else { &e[..] };
        let r = regs(user, wp, smap, ac, smep);
        let mut m = machine(e, large);
        m.configure(&r);
        let got = match kind {
            0 => m.load(VA, 4).map(|_| ()),
            1 => m.store(VA, 4, 7),
            _ => m.fetch(VA).map(|_| ()),
        };
        let want = model(used, &r, kind == 1, kind == 2);
        prop_assert_eq!(got, want.map_err(|code| MemStop::PageFault { va: VA, code }));
        // Accessed and dirty bits appear only where the access was permitted.
        let leaf = if large { PD + (VA >> 21 & 511) * 8 } else { PT + (VA >> 12 & 511) * 8 };
        let now = m.ram().read_uint(leaf, 8).unwrap();
        prop_assert_eq!(now & A != 0, want.is_ok());
        let before = used[used.len() - 1] & D != 0;
        prop_assert_eq!(now & D != 0, before || (want.is_ok() && kind == 1));
        // Doing it again changes nothing.
        let tlb: Vec<u64> = m.visible_tlb().collect();
        let again = match kind {
            0 => m.load(VA, 4).map(|_| ()),
            1 => m.store(VA, 4, 7),
            _ => m.fetch(VA).map(|_| ()),
        };
        prop_assert_eq!(again, got);
        prop_assert!(tlb.iter().copied().eq(m.visible_tlb()));
    }
}

#[test]
fn a_translation_lives_until_it_is_flushed() {
    let mut m = machine([P | RW | US; 4], false);
    m.configure(&regs(false, true, false, false, false));
    m.store(VA, 8, 42).unwrap();
    let pte = PT + (VA >> 12 & 511) * 8;
    m.ram().write_uint(pte, 8, 0);
    assert_eq!(m.load(VA, 8), Ok(42));
    m.invlpg(VA);
    assert!(matches!(
        m.load(VA, 8),
        Err(MemStop::PageFault { code: 0, .. })
    ));
}

/// Two pages whose entries share a place in the first way.
#[test]
fn two_pages_of_one_index_live_side_by_side() {
    let apart = DATA_ENTRIES as u64 * 4096;
    let mut m = machine([P | RW | US; 4], false);
    let other = VA + apart;
    let pde = PD + (other >> 21 & 511) * 8;
    m.ram().write_uint(pde, 8, 0x5000 | P | RW);
    let pte = 0x5000 + (other >> 12 & 511) * 8;
    m.ram().write_uint(pte, 8, 0x11_0000 | P | RW);
    m.configure(&regs(false, true, false, false, false));
    m.set_logging(true);
    m.store(VA, 8, 1).unwrap();
    m.store(other, 8, 2).unwrap();
    // The tables say nothing of either any more; only the TLB knows them.
    m.ram().write_uint(pde, 8, 0);
    m.ram().write_uint(PT + (VA >> 12 & 511) * 8, 8, 0);
    m.forget_changes();
    let before: Vec<u64> = m.visible_tlb().collect();
    for _ in 0..3 {
        assert_eq!((m.load(VA, 8), m.load(other, 8)), (Ok(1), Ok(2)));
    }
    assert_eq!(m.load(VA, 8), Ok(1));
    let mut changes = Changes::default();
    m.take_changes(&mut changes);
    m.roll_back(&changes);
    assert!(before.iter().copied().eq(m.visible_tlb()));
    m.invlpg(VA);
    assert!(m.load(VA, 8).is_err());
    assert_eq!(m.load(other, 8), Ok(2));
    m.invlpg(other);
    assert!(m.load(other, 8).is_err());
}

#[test]
fn global_pages_outlive_cr3_and_large_ones_go_as_a_whole() {
    let mut m = machine([P | RW, P | RW, P | RW | G, 0], true);
    m.configure(&regs(false, true, false, false, false));
    for page in 0..3 {
        m.load(VA + page * 4096, 1).unwrap();
    }
    m.ram().write_uint(PD + (VA >> 21 & 511) * 8, 8, 0);
    m.load_cr3(PML4, false);
    assert!(m.load(VA, 1).is_ok());
    m.invlpg(VA + 5 * 4096);
    for page in 0..3 {
        assert!(m.load(VA + page * 4096, 1).is_err());
    }
}

#[test]
fn an_access_over_two_pages_writes_both_or_none() {
    let mut m = machine([P | RW; 4], false);
    m.configure(&regs(false, true, false, false, false));
    let at = VA + 4092;
    let next = MemStop::PageFault {
        va: VA + 4096,
        code: 2,
    };
    assert_eq!(m.store(at, 8, u64::MAX), Err(next));
    assert_eq!(m.load(at, 4), Ok(0));
    m.ram()
        .write_uint(PT + ((VA + 4096) >> 12 & 511) * 8, 8, 0x8_0000 | P | RW);
    m.store(at, 8, 0x1122_3344_5566_7788).unwrap();
    assert_eq!(m.load(at, 8), Ok(0x1122_3344_5566_7788));
    assert_eq!(m.ram().read_uint(0x8_0000, 4), Some(0x1122_3344));
}

#[test]
fn stores_to_code_are_reported_and_complete() {
    let mut m = Mmu::new(Ram::anonymous(1 << 20));
    m.store(0x5000, 8, 1).unwrap();
    m.mark_code(0x5040, 10);
    m.store(0x5000, 8, 2).unwrap();
    assert!(!m.ram().code_written());
    m.store(0x503c, 8, 3).unwrap();
    let writes = m.ram().take_code_writes();
    assert_eq!((writes[0].address, writes[0].len), (0x503c, 8));
    assert_eq!(m.load(0x503c, 8), Ok(3));
    m.ram().unmark_code(0x5040, 10);
    m.store(0x5048, 8, 4).unwrap();
    assert!(!m.ram().code_written());
}

#[test]
fn the_log_takes_back_stores_and_fills() {
    let mut m = machine([P | RW | US; 4], false);
    m.configure(&regs(false, true, false, false, false));
    m.set_logging(true);
    let before: Vec<u64> = m.visible_tlb().collect();
    m.store(VA + 8, 8, 99).unwrap();
    let mut changes = Changes::default();
    m.take_changes(&mut changes);
    m.roll_back(&changes);
    assert!(before.iter().copied().eq(m.visible_tlb()));
    assert_eq!(m.ram().read_uint(0x10_0008, 8), Some(0));
    assert_eq!(
        m.ram().read_uint(PT + (VA >> 12 & 511) * 8, 8).unwrap() & (A | D),
        0
    );
}
