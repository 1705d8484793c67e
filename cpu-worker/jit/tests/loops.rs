//! Small programs in all modes: the outcome is the same, and the translator did the work.

mod common;

use atoll_jit::{Engine, Exit, Mode, Tier};
use common::{CODE, DATA, Empty, cpu, outcome, run};

/// HLT after the program; runs it in the three modes and compares everything.
fn check(code: &[u8], least_compiled: u64) -> Vec<u64> {
    let mut code = code.to_vec();
    code.push(0xf4);
    let mut first = None;
    for mode in [Mode::Interp, Mode::Jit, Mode::Lockstep] {
        let mut c = cpu(&code);
        let (exit, engine) = run(&mut c, mode, 10_000_000);
        assert_eq!(exit, Exit::Halt, "{mode:?} at {:#x}", c.state.rip());
        assert_eq!(c.state.rip(), CODE + code.len() as u64);
        let o = outcome(&c);
        let f = first.get_or_insert(o.clone());
        assert!(
            o.0 == f.0,
            "registers differ in {mode:?}: {:x?}",
            c.state.gpr
        );
        assert!(o.1 == f.1, "memory differs in {mode:?}");
        if mode == Mode::Jit {
            let s = engine.stats();
            assert!(s.compiled_instructions >= least_compiled, "{s:?}");
        }
        if mode == Mode::Lockstep {
            return c.state.gpr.to_vec();
        }
    }
    unreachable!()
}

#[test]
fn a_counting_loop_is_compiled() {
    // mov ecx, 100000; xor eax, eax; l: add rax, rcx; dec rcx; jnz l
    let g = check(
        &[
            0xb9, 0xa0, 0x86, 0x01, 0x00, 0x31, 0xc0, 0x48, 0x01, 0xc8, 0x48, 0xff, 0xc9, 0x75,
            0xf8,
        ],
        290_000,
    );
    assert_eq!(g[0], 100_000 * 100_001 / 2);
}

#[test]
fn loads_and_stores_go_through_the_tlb() {
    // mov ebx, DATA; mov ecx, 50000; l: mov [rbx+rcx*8], rcx; add rdx, [rbx+rcx*8]; sub ecx, 1; jnz l
    let mut code = vec![0xbb];
    code.extend((DATA as u32).to_le_bytes());
    code.extend([0xb9, 0x50, 0xc3, 0, 0]);
    code.extend([0x48, 0x89, 0x0c, 0xcb]);
    code.extend([0x48, 0x03, 0x14, 0xcb]);
    code.extend([0x83, 0xe9, 0x01, 0x75, 0xf3]);
    let g = check(&code, 190_000);
    assert_eq!(g[2], 50_000 * 50_001 / 2);
}

#[test]
fn calls_and_returns_are_linked() {
    // mov ecx, 20000; l: call f; dec ecx; jnz l; hlt; f: add rax, 3; push rax; pop rdx; ret
    let mut code = vec![0xb9, 0x20, 0x4e, 0, 0];
    code.extend([0xe8, 5, 0, 0, 0]); // call f (after hlt)
    code.extend([0xff, 0xc9, 0x75, 0xf7]);
    code.push(0xf4);
    code.extend([0x48, 0x83, 0xc0, 0x03, 0x50, 0x5a, 0xc3]);
    let mut first: Option<(Vec<u8>, Vec<u8>)> = None;
    for mode in [Mode::Interp, Mode::Jit, Mode::Lockstep] {
        let mut c = cpu(&code);
        let (exit, engine) = run(&mut c, mode, 10_000_000);
        assert_eq!(exit, Exit::Halt);
        assert_eq!(c.state.gpr[0], 60_000);
        let o = outcome(&c);
        assert!(first.get_or_insert(o.clone()) == &o, "{mode:?}");
        if mode == Mode::Jit {
            assert!(
                engine.stats().compiled_instructions > 130_000,
                "{:?}",
                engine.stats()
            );
        }
    }
}

#[test]
fn the_budget_is_exact() {
    let code = [0x48, 0xff, 0xc0, 0x48, 0xff, 0xc3, 0xeb, 0xf8]; // l: inc rax; inc rbx; jmp l
    for budget in [1, 2, 3, 4, 5, 1000, 1001, 1002, 99_999] {
        let mut seen = Vec::new();
        for mode in [Mode::Interp, Mode::Jit, Mode::Lockstep] {
            let mut c = cpu(&code);
            let (exit, _) = run(&mut c, mode, budget);
            assert_eq!(exit, Exit::Deadline);
            assert_eq!(c.state.clock.budget, 0);
            seen.push((c.state.gpr, c.state.eflags()));
        }
        assert!(seen.windows(2).all(|w| w[0] == w[1]), "{budget}: {seen:x?}");
    }
}

#[test]
fn a_program_that_rewrites_itself_sees_the_new_code() {
    // mov ecx, 3000; l: mov eax, imm (patched); add rdx, rax; inc dword [rip-imm]; dec ecx; jnz l
    let mut code = vec![0xb9, 0xb8, 0x0b, 0, 0];
    code.extend([0xb8, 1, 0, 0, 0]); // mov eax, 1 at 5, immediate at 6
    code.extend([0x48, 0x01, 0xc2]); // add rdx, rax
    code.extend([0xff, 0x05]); // inc dword [rip + d]
    let d = 6i32 - (code.len() as i32 + 4);
    code.extend(d.to_le_bytes());
    code.extend([0xff, 0xc9]);
    let back = 5i32 - (code.len() as i32 + 2);
    code.extend([0x75, back as u8]);
    let g = check(&code, 0);
    assert_eq!(g[2], 3000 * 3001 / 2);
}

#[test]
fn a_fault_between_two_iterations_is_at_the_same_instruction() {
    // mov edi, the last 64 bytes that are mapped; mov ecx, 200; rep stosb
    let mut code = vec![0xbf];
    code.extend((0x40_0000u32 - 64).to_le_bytes());
    code.extend([0xb9, 200, 0, 0, 0, 0xf3, 0xaa]);
    for mode in [Mode::Interp, Mode::Jit, Mode::Lockstep] {
        let mut c = cpu(&code);
        // Two pages of 2 MiB, mapped one to one.
        for (at, entry) in [
            (0x1000, 0x2003),
            (0x2000, 0x3003),
            (0x3000, 0x83),
            (0x3008, 0x20_0083),
        ] {
            assert!(c.mmu.ram().write_uint(at, 8, entry));
        }
        c.state.cr3 = 0x1000;
        c.state.cr0 |= 1 << 31;
        c.update_mode();
        let (exit, _) = run(&mut c, mode, 10_000);
        assert_eq!(exit, Exit::Shutdown, "{mode:?}");
        let s = &c.state;
        assert_eq!((s.gpr[1], s.gpr[7], s.cr2), (136, 0x40_0000, 0x40_0000));
        assert_eq!(s.clock.budget, 10_000 - 2 - 64 - 1, "{mode:?}");
    }
}

#[test]
fn a_device_sees_each_store_once() {
    // mov ebx, 3; l: mov edi, beyond RAM; mov ecx, 10; rep stosb; dec ebx; jnz l
    let mut code = vec![0xbb, 3, 0, 0, 0, 0xbf];
    code.extend(0x90_0000u32.to_le_bytes());
    code.extend([0xb9, 10, 0, 0, 0, 0xf3, 0xaa, 0xff, 0xcb, 0x75, 0xf0, 0xf4]);
    for mode in [Mode::Interp, Mode::Jit, Mode::Lockstep] {
        let mut c = cpu(&code);
        let (exit, _) = run(&mut c, mode, 10_000);
        assert_eq!(exit, Exit::Halt, "{mode:?}");
        let board = c.bus.as_any().downcast_mut::<Empty>();
        assert_eq!(board.map(|b| b.stores), Some(30), "{mode:?}");
    }
}

#[test]
fn heads_within_a_row_share_its_rest() {
    // l: add [rdi], cl, a thousand times; jmp l
    let mut code = [0x00, 0x0f].repeat(1000);
    code.push(0xe9);
    code.extend((-2005i32).to_le_bytes());
    let mut c = cpu(&code);
    c.state.gpr[7] = DATA;
    let mut engine = Engine::inline(2, Tier::Optimised);
    // Each stretch begins 91 instructions behind the one before it, so that there are eleven heads.
    for _ in 0..200 {
        let now = c.state.clock.now_ns();
        c.state.clock.set_deadline(now, now + 1001 + 91);
        assert_eq!(engine.run(&mut c), Exit::Deadline);
    }
    let s = engine.stats();
    assert!(s.translated_instructions < 4000, "{s:?}");
    assert!(
        s.compiled_instructions > 4 * s.interpreted_instructions,
        "{s:?}"
    );
}

/// mov edi, DATA; mov edx, 60; l: mov ecx, edx; the body; adc eax, ebx; sub edx, 1; jnz l
fn loop_of(body: &[u8]) -> Vec<u8> {
    let mut code = vec![0xbf];
    code.extend((DATA as u32).to_le_bytes());
    code.extend([0xba, 60, 0, 0, 0, 0x89, 0xd1]);
    code.extend(body);
    code.extend([0x11, 0xd8, 0x83, 0xea, 1, 0x0f, 0x85]);
    code.extend((-(body.len() as i32 + 13)).to_le_bytes());
    code
}

#[test]
fn a_row_of_shifts_costs_its_length() {
    // rcl byte [rdi], cl: by zero it leaves the flags to the one before it, and each may fault.
    let code = loop_of(&[0xd2, 0x17].repeat(100));
    check(&code, 3_000);
    let mut c = cpu(&code);
    let (_, engine) = run(&mut c, Mode::Jit, 20_000);
    let s = engine.stats();
    assert!(s.code_bytes < 1000 * s.translated_instructions, "{s:?}");
}

#[test]
fn a_region_that_is_too_dear_becomes_smaller_ones() {
    // rcl byte [rdi], cl, twenty times; jnc to what follows
    let mut group = [0xd2, 0x17].repeat(20);
    group.extend([0x73, 0]);
    check(&loop_of(&group.repeat(30)), 20_000);
}
