//! Decoding of the instructions that are functions of `Cpu`.

use iced_x86::{Code, Instruction, Mnemonic as M, OpKind, Register};

use super::{
    Ctx, apply_segment, function, operand_width, segment, set_dst, set_src, width_of_bytes,
};
use crate::features::Features as F;
use crate::helper;
use crate::op::{AddrSize, Arg, Handler, Kind, Op, OpFlags, RAX, Seg, Width};
use crate::state::mode;
use crate::system::{
    control, cpuid, far, flags, iret, monitor, msr, port, segments, syscall, tables,
};

/// The instruction, if it is one of these.
pub(crate) fn decode(i: &Instruction, c: &Ctx) -> Option<Op> {
    moves(i, c)
        .or_else(|| transfers(i, c))
        .or_else(|| flag_control(i, c))
        .or_else(|| descriptor_tables(i, c))
        .or_else(|| privileged(i, c))
        .or_else(|| time_and_ports(i, c))
        .or_else(|| helpers(i, c))
}

fn need(c: &Ctx, f: F) -> Option<()> {
    c.has(f).then_some(())
}

fn system(i: &Instruction, c: &Ctx, run: Handler) -> Op {
    function(i, c, Kind::System, run)
}

/// A system instruction that only transfers control.
fn transfer(i: &Instruction, c: &Ctx, run: Handler) -> Op {
    let mut op = system(i, c, run);
    op.flags |= OpFlags::TRANSFERS;
    op
}

/// MOV, PUSH and POP of segment, control and debug registers, and far pointers.
fn moves(i: &Instruction, c: &Ctx) -> Option<Op> {
    let register = |n: u32| {
        if n < i.op_count() && i.op_kind(n) == OpKind::Register {
            i.op_register(n)
        } else {
            Register::None
        }
    };
    let (a, b) = (register(0), register(1));
    let mut op = match i.mnemonic() {
        M::Mov if a.is_segment_register() && a != Register::CS => {
            // In 64-bit mode the data segments are no part of the mode word.
            let kind = if c.is(mode::LONG) && a != Register::SS {
                Kind::Helper
            } else {
                Kind::System
            };
            function(i, c, kind, segments::mov_to_segment)
        }
        M::Mov if b.is_segment_register() => {
            function(i, c, Kind::Helper, segments::mov_from_segment)
        }
        M::Mov if a.is_cr() => system(i, c, control::write_cr),
        M::Mov if b.is_cr() => function(i, c, Kind::Helper, control::read_cr),
        M::Mov if a.is_dr() => system(i, c, control::write_dr),
        M::Mov if b.is_dr() => system(i, c, control::read_dr),
        M::Push if a.is_segment_register() => {
            let mut op = function(i, c, Kind::Helper, segments::push_segment);
            op.width = width_of_bytes(i.stack_pointer_increment().unsigned_abs() as usize);
            op.src = a.number() as u8;
            op.seg = Seg::Ss;
            return Some(op);
        }
        M::Pop if a.is_segment_register() => {
            let mut op = system(i, c, segments::pop_segment);
            op.width = width_of_bytes(i.stack_pointer_increment().unsigned_abs() as usize);
            op.dst = a.number() as u8;
            op.seg = Seg::Ss;
            return Some(op);
        }
        M::Lds | M::Les | M::Lfs | M::Lgs | M::Lss => {
            let mut op = system(i, c, segments::load_far_pointer);
            op.sub = match i.mnemonic() {
                M::Les => 0,
                M::Lss => 2,
                M::Lds => 3,
                M::Lfs => 4,
                _ => 5,
            };
            op.width = operand_width(i, 0);
            set_dst(i, 0, &mut op);
            op.src_arg = Arg::Mem;
            return Some(op);
        }
        _ => return None,
    };
    op.width = if a.is_gpr() {
        width_of_bytes(a.size())
    } else {
        Width::W
    };
    set_dst(i, 0, &mut op);
    set_src(i, 1, &mut op);
    Some(op)
}

/// Far transfers, interrupts and their returns, system calls.
fn transfers(i: &Instruction, c: &Ctx) -> Option<Op> {
    let mut op = match i.mnemonic() {
        M::Jmp | M::Call => {
            let run = if i.mnemonic() == M::Jmp {
                far::jmp_far
            } else {
                far::call_far
            };
            let mut op = system(i, c, run);
            op.width = match i.code() {
                Code::Jmp_m1616 | Code::Call_m1616 | Code::Jmp_ptr1616 | Code::Call_ptr1616 => {
                    Width::W
                }
                Code::Jmp_m1664 | Code::Call_m1664 => Width::Q,
                _ => Width::D,
            };
            match i.op0_kind() {
                OpKind::Memory => op.src_arg = Arg::Mem,
                OpKind::FarBranch16 => {
                    op.imm = (i.far_branch_selector() as u64) << 32 | i.far_branch16() as u64;
                }
                _ => {
                    op.imm = (i.far_branch_selector() as u64) << 32 | i.far_branch32() as u64;
                }
            }
            op
        }
        M::Retf => {
            let mut op = system(i, c, far::ret_far);
            op.width = match i.code() {
                Code::Retfw | Code::Retfw_imm16 => Width::W,
                Code::Retfd | Code::Retfd_imm16 => Width::D,
                _ => Width::Q,
            };
            if i.op_count() > 0 {
                op.imm = i.immediate(0) & 0xffff;
            }
            op.seg = Seg::Ss;
            op
        }
        M::Iret | M::Iretd | M::Iretq => {
            let mut op = transfer(i, c, iret::iret);
            op.width = match i.mnemonic() {
                M::Iret => Width::W,
                M::Iretd => Width::D,
                _ => Width::Q,
            };
            op.seg = Seg::Ss;
            op
        }
        M::Int => {
            let mut op = system(i, c, flags::int);
            op.imm = i.immediate(0) & 0xff;
            op
        }
        M::Int3 | M::Into | M::Int1 => {
            let mut op = system(i, c, flags::int);
            op.sub = match i.mnemonic() {
                M::Int3 => 3,
                M::Into => 4,
                _ => 1,
            };
            op
        }
        M::Syscall => {
            need(c, F::SYSCALL)?;
            transfer(i, c, syscall::syscall)
        }
        M::Sysret | M::Sysretq => {
            need(c, F::SYSCALL)?;
            let mut op = transfer(i, c, syscall::sysret);
            op.width = if i.mnemonic() == M::Sysretq {
                Width::Q
            } else {
                Width::D
            };
            op
        }
        M::Sysenter => {
            need(c, F::SEP)?;
            transfer(i, c, syscall::sysenter)
        }
        M::Sysexit | M::Sysexitq => {
            need(c, F::SEP)?;
            let mut op = transfer(i, c, syscall::sysexit);
            op.width = if i.mnemonic() == M::Sysexitq {
                Width::Q
            } else {
                Width::D
            };
            op
        }
        M::Swapgs => return Some(function(i, c, Kind::Helper, syscall::swapgs)),
        _ => return None,
    };
    op.flags |= crate::op::OpFlags::ENDS_BLOCK;
    Some(op)
}

fn flag_control(i: &Instruction, c: &Ctx) -> Option<Op> {
    let (run, width): (Handler, Width) = match i.mnemonic() {
        M::Pushf => (flags::pushf, Width::W),
        M::Pushfd => (flags::pushf, Width::D),
        M::Pushfq => (flags::pushf, Width::Q),
        M::Popf => (flags::popf, Width::W),
        M::Popfd => (flags::popf, Width::D),
        M::Popfq => (flags::popf, Width::Q),
        M::Cli => (flags::cli, Width::D),
        M::Sti => (flags::sti, Width::D),
        M::Hlt => (flags::hlt, Width::D),
        M::Monitor => {
            need(c, F::MONITOR)?;
            return Some(addressed_by_rax(i, c, monitor::monitor));
        }
        M::Clzero => {
            need(c, F::CLZERO)?;
            let mut op = addressed_by_rax(i, c, control::clear_line);
            op.flags |= OpFlags::WRITES;
            return Some(op);
        }
        M::Mwait => {
            need(c, F::MONITOR)?;
            (monitor::mwait, Width::D)
        }
        M::Clac | M::Stac => {
            need(c, F::SMAP)?;
            (flags::set_ac, Width::D)
        }
        _ => return None,
    };
    // What these change is told through `attention` where it matters to code that goes on.
    let kind = if matches!(i.mnemonic(), M::Hlt | M::Mwait) {
        Kind::System
    } else {
        Kind::Helper
    };
    let mut op = function(i, c, kind, run);
    op.width = width;
    op.sub = (i.mnemonic() == M::Stac) as u8;
    op.seg = Seg::Ss;
    Some(op)
}

/// MONITOR and CLZERO: the address is in (R|E)AX.
fn addressed_by_rax(i: &Instruction, c: &Ctx, run: Handler) -> Op {
    let mut op = function(i, c, Kind::Helper, run);
    op.base = RAX;
    op.addr = match i.code() {
        Code::Monitorw | Code::Clzerow => AddrSize::A16,
        Code::Monitord | Code::Clzerod => AddrSize::A32,
        _ => AddrSize::A64,
    };
    if op.addr != AddrSize::A64 {
        op.flags |= OpFlags::ADDR_CUT;
    }
    op.seg = segment(i.segment_prefix());
    if c.is(mode::LONG) && !matches!(op.seg, Seg::Fs | Seg::Gs) {
        op.seg = Seg::Ds;
    }
    apply_segment(c, &mut op);
    op
}

fn descriptor_tables(i: &Instruction, c: &Ctx) -> Option<Op> {
    let (run, sub): (Handler, u8) = match i.mnemonic() {
        M::Sgdt => (tables::store_table, 0),
        M::Sidt => (tables::store_table, 1),
        M::Lgdt => (tables::load_table, 0),
        M::Lidt => (tables::load_table, 1),
        M::Sldt => (tables::sldt, 0),
        M::Str => (tables::str, 0),
        M::Lldt => (tables::lldt, 0),
        M::Ltr => (tables::ltr, 0),
        M::Verr => (tables::verify, 0),
        M::Verw => (tables::verify, 1),
        M::Lar => (tables::load_rights, 0),
        M::Lsl => (tables::load_rights, 1),
        M::Arpl => (tables::arpl, 0),
        _ => return None,
    };
    let mut op = system(i, c, run);
    op.sub = sub;
    op.width = match i.code() {
        Code::Lgdt_m1632_16 | Code::Lidt_m1632_16 => Width::W,
        _ if i.op0_kind() == OpKind::Register => operand_width(i, 0),
        _ => Width::D,
    };
    match i.mnemonic() {
        M::Sgdt | M::Sidt | M::Sldt | M::Str => set_dst(i, 0, &mut op),
        M::Lldt | M::Ltr | M::Verr | M::Verw => set_src(i, 0, &mut op),
        M::Lar | M::Lsl | M::Arpl => {
            set_dst(i, 0, &mut op);
            set_src(i, 1, &mut op);
        }
        _ => op.src_arg = Arg::Mem,
    }
    Some(op)
}

fn privileged(i: &Instruction, c: &Ctx) -> Option<Op> {
    let mut op = match i.mnemonic() {
        M::Clts => system(i, c, control::clts),
        M::Lmsw => {
            let mut op = system(i, c, control::lmsw);
            set_src(i, 0, &mut op);
            op
        }
        M::Smsw => {
            let mut op = system(i, c, control::smsw);
            if i.op0_kind() == OpKind::Register {
                op.width = operand_width(i, 0);
            }
            set_dst(i, 0, &mut op);
            op
        }
        M::Invlpg => {
            let mut op = system(i, c, control::invlpg);
            op.src_arg = Arg::Mem;
            op
        }
        M::Invpcid => {
            need(c, F::INVPCID)?;
            let mut op = system(i, c, control::invpcid);
            set_dst(i, 0, &mut op);
            op.src_arg = Arg::Mem;
            op
        }
        M::Wbinvd | M::Invd => system(i, c, control::cache_control),
        M::Clflush | M::Clflushopt | M::Clwb => {
            need(
                c,
                match i.mnemonic() {
                    M::Clflush => F::CLFLUSH,
                    M::Clwb => F::CLWB,
                    _ => F::CLFLUSHOPT,
                },
            )?;
            let mut op = function(i, c, Kind::Helper, control::flush_line);
            op.src_arg = Arg::Mem;
            op
        }
        M::Rdmsr | M::Wrmsr => {
            need(c, F::MSR)?;
            let run = if i.mnemonic() == M::Rdmsr {
                msr::rdmsr
            } else {
                msr::wrmsr
            };
            function(i, c, Kind::Helper, run)
        }
        M::Cpuid => system(i, c, cpuid::cpuid),
        M::Rdfsbase | M::Rdgsbase | M::Wrfsbase | M::Wrgsbase => {
            need(c, F::FSGSBASE)?;
            let mut op = function(i, c, Kind::Helper, flags::fs_gs_base);
            let gs = matches!(i.mnemonic(), M::Rdgsbase | M::Wrgsbase);
            let write = matches!(i.mnemonic(), M::Wrfsbase | M::Wrgsbase);
            op.sub = gs as u8 | (write as u8) << 1;
            op.width = operand_width(i, 0);
            set_dst(i, 0, &mut op);
            op
        }
        _ => return None,
    };
    if op.dst_arg == Arg::Mem {
        op.width = Width::W;
    }
    Some(op)
}

fn time_and_ports(i: &Instruction, c: &Ctx) -> Option<Op> {
    let time = |run: Handler| function(i, c, Kind::Time, run);
    let op = match i.mnemonic() {
        M::Rdtsc => {
            need(c, F::TSC)?;
            time(msr::rdtsc)
        }
        M::Rdtscp => {
            need(c, F::RDTSCP)?;
            let mut op = time(msr::rdtsc);
            op.sub = 1;
            op
        }
        M::Rdpmc => time(msr::rdpmc),
        M::In => {
            let mut op = function(i, c, Kind::Helper, port::port_in);
            op.width = operand_width(i, 0);
            set_src(i, 1, &mut op);
            op
        }
        M::Out => {
            let mut op = function(i, c, Kind::Helper, port::port_out);
            op.width = operand_width(i, 1);
            set_dst(i, 0, &mut op);
            op
        }
        _ => return None,
    };
    Some(op)
}

fn helpers(i: &Instruction, c: &Ctx) -> Option<Op> {
    let helper = |run: Handler| function(i, c, Kind::Helper, run);
    let mut op = match i.mnemonic() {
        M::Cmpxchg8b => {
            need(c, F::CX8)?;
            helper(helper::cmpxchg8b)
        }
        M::Cmpxchg16b => {
            need(c, F::CX16)?;
            helper(helper::cmpxchg16b)
        }
        M::Bound => {
            let mut op = helper(helper::bound);
            op.width = operand_width(i, 0);
            set_dst(i, 0, &mut op);
            op.src_arg = Arg::Mem;
            return Some(op);
        }
        M::Enter => {
            let mut op = helper(helper::enter);
            op.width = match i.code() {
                Code::Enterw_imm16_imm8 => Width::W,
                Code::Enterd_imm16_imm8 => Width::D,
                _ => Width::Q,
            };
            op.imm = i.immediate(0) & 0xffff;
            op.sub = i.immediate(1) as u8;
            op.seg = Seg::Ss;
            return Some(op);
        }
        M::Pusha | M::Pushad | M::Popa | M::Popad => {
            let push = matches!(i.mnemonic(), M::Pusha | M::Pushad);
            let mut op = helper(if push { helper::pusha } else { helper::popa });
            op.width = if matches!(i.mnemonic(), M::Pusha | M::Popa) {
                Width::W
            } else {
                Width::D
            };
            op.seg = Seg::Ss;
            return Some(op);
        }
        M::Xlatb => {
            let mut op = helper(helper::xlat);
            op.addr = match i.memory_base() {
                Register::BX => AddrSize::A16,
                Register::EBX => AddrSize::A32,
                _ => AddrSize::A64,
            };
            op.seg = segment(i.memory_segment());
            if c.is(mode::LONG) && !matches!(op.seg, Seg::Fs | Seg::Gs) {
                op.seg = Seg::Ds;
            }
            apply_segment(c, &mut op);
            return Some(op);
        }
        M::Crc32 => {
            need(c, F::SSE4_2)?;
            let mut op = helper(helper::crc32);
            op.width2 = operand_width(i, 1);
            set_dst(i, 0, &mut op);
            set_src(i, 1, &mut op);
            return Some(op);
        }
        M::Rdrand | M::Rdseed | M::Rdpid => {
            need(
                c,
                match i.mnemonic() {
                    M::Rdrand => F::RDRAND,
                    M::Rdseed => F::RDSEED,
                    _ => F::RDPID,
                },
            )?;
            let mut op = helper(if i.mnemonic() == M::Rdpid {
                msr::rdpid
            } else {
                helper::random
            });
            op.width = operand_width(i, 0);
            set_dst(i, 0, &mut op);
            return Some(op);
        }
        M::Adcx | M::Adox => {
            need(c, F::ADX)?;
            let mut op = helper(helper::add_one_flag);
            op.sub = (i.mnemonic() == M::Adox) as u8;
            op.width = operand_width(i, 0);
            set_dst(i, 0, &mut op);
            set_src(i, 1, &mut op);
            return Some(op);
        }
        M::Salc => helper(helper::salc),
        M::Daa => helper(helper::decimal_adjust),
        M::Das => {
            let mut op = helper(helper::decimal_adjust);
            op.sub = 1;
            op
        }
        M::Aaa => helper(helper::ascii_adjust),
        M::Aas => {
            let mut op = helper(helper::ascii_adjust);
            op.sub = 1;
            op
        }
        M::Aam | M::Aad => {
            let aam = i.mnemonic() == M::Aam;
            let mut op = helper(if aam { helper::aam } else { helper::aad });
            op.imm = i.immediate(0) & 0xff;
            op
        }
        _ => return None,
    };
    if op.dst_arg == Arg::None && i.op_count() > 0 && i.op0_kind() == OpKind::Memory {
        op.dst_arg = Arg::Mem;
    }
    Some(op)
}
