//! Renders `ABI.md` from the types, so that the page cannot disagree with them.

use crate::layout::Layout;
use core::fmt::Write;

/// The shared structs, in the order of the page.
pub const LAYOUTS: &[Layout] = &[
    crate::Slot::LAYOUT,
    crate::link::LinkHeader::LAYOUT,
    crate::link::Bell::LAYOUT,
    crate::link::Cursor::LAYOUT,
    crate::link::BellPage::LAYOUT,
    crate::clock::ClockPage::LAYOUT,
    crate::route::RouteTable::LAYOUT,
    crate::route::RouteRow::LAYOUT,
    crate::stats::StatsPage::LAYOUT,
];

type Numbers = &'static [(u64, &'static str, &'static str)];

const ENUMS: &[(&str, Numbers)] = &[
    (
        "Kind (last byte of a slot, bits 0-6)",
        crate::slot::Kind::TABLE,
    ),
    ("Status (`arg` of a reply)", crate::slot::Status::TABLE),
    ("LinkKind", crate::link::LinkKind::TABLE),
    ("Policy", crate::clock::Policy::TABLE),
    ("RunState", crate::clock::RunState::TABLE),
    ("WorkerState", crate::clock::WorkerState::TABLE),
    ("RouteKind", crate::route::RouteKind::TABLE),
    ("Counter", crate::stats::Counter::TABLE),
    (
        "ExitReason (exit code of `atoll run`)",
        crate::exit::ExitReason::TABLE,
    ),
];

/// The whole page. `messages` are examples of control messages as (name, encoded bytes): the encoder lives elsewhere.
pub fn render(messages: &[(String, Vec<u8>)]) -> String {
    let mut page = String::new();
    let _ = render_to(&mut page, messages);
    page
}

fn render_to(page: &mut String, messages: &[(String, Vec<u8>)]) -> core::fmt::Result {
    writeln!(
        page,
        "# The wire of Atoll, version {}\n",
        crate::ABI_VERSION
    )?;
    writeln!(
        page,
        "Generated from the types of `atoll-abi`. Little-endian; offsets and sizes in bytes.\n"
    )?;
    writeln!(page, "## Shared structs\n")?;
    for layout in LAYOUTS {
        writeln!(page, "### {} ({} bytes)\n", layout.name, layout.size)?;
        writeln!(
            page,
            "| offset | size | field | meaning |\n|---:|---:|---|---|"
        )?;
        for field in layout.fields {
            writeln!(
                page,
                "| {} | {} | {} | {} |",
                field.offset, field.size, field.name, field.meaning
            )?;
        }
        writeln!(page)?;
    }
    link_regions(page)?;
    writeln!(page, "## Numbers\n")?;
    for (name, table) in ENUMS {
        writeln!(
            page,
            "### {name}\n\n| number | name | meaning |\n|---:|---|---|"
        )?;
        for (number, name, meaning) in *table {
            writeln!(page, "| {number:#04x} | {name} | {} |", meaning.trim())?;
        }
        writeln!(page)?;
    }
    writeln!(page, "## Control messages\n")?;
    let frame =
        "A frame is a u32 length, a u32 count of file descriptors, and postcard of one message.";
    writeln!(
        page,
        "{frame} One example of each, as the golden bytes have it.\n"
    )?;
    writeln!(page, "| message | bytes |\n|---|---|")?;
    for (name, bytes) in messages {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(page, "| {name} | `{hex}` |")?;
    }
    console(page)
}

/// The packets between seriald and a console.
fn console(page: &mut String) -> core::fmt::Result {
    use crate::console::{ConsoleFrame, MAX_TEXT};
    writeln!(page, "\n## Console packets\n")?;
    writeln!(
        page,
        "A packet of a SOCK_SEQPACKET pair is a byte that says which, a u64 that numbers the first byte of the text \
         from the beginning of the run, and at most {MAX_TEXT} bytes of text.\n"
    )?;
    writeln!(page, "| packet | bytes |\n|---|---|")?;
    let (number, text) = (0x102, &b"hi"[..]);
    let frames = [
        (
            "Output, seriald to console",
            ConsoleFrame::Output { number, text },
        ),
        (
            "Input, console to seriald",
            ConsoleFrame::Input { number, text },
        ),
    ];
    for (name, frame) in frames {
        let hex: String = frame
            .encode()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        writeln!(page, "| {name} | `{hex}` |")?;
    }
    Ok(())
}

/// Where things lie in a link segment, for the default geometry of each kind.
fn link_regions(page: &mut String) -> core::fmt::Result {
    writeln!(page, "## Regions of a link segment\n")?;
    writeln!(
        page,
        "Each starts on a page: header, request ring, reply ring, input ring, then the three arenas.\n"
    )?;
    writeln!(
        page,
        "| default | slots | input slots | request arena | reply arena | input arena | segment |"
    )?;
    writeln!(page, "|---|---:|---:|---:|---:|---:|---:|")?;
    for &kind in crate::link::LinkKind::ALL {
        let g = crate::link::LinkGeometry::default_for(kind);
        let (slots, input_slots, len) = (g.slots, g.input_slots, g.offsets().len);
        let (request, reply, input) = (g.request_arena, g.reply_arena, g.input_arena);
        writeln!(
            page,
            "| {kind:?} | {slots} | {input_slots} | {request} | {reply} | {input} | {len} |"
        )?;
    }
    writeln!(page)
}
