//! What one server of a char link leaves for the next, in the link's notes.

use atoll_abi::char::CharInput;
use atoll_transport::{Error, LinkMemory, QueueSender};

/// The number of the first output byte that was neither delivered nor given up.
const OUTPUT: usize = 0;
/// Where the run's first byte is in the file, plus one.
const FILE_BASE: usize = 1;
/// Input bytes that the guest was given before the message at `INPUT_POSITION`, the position itself,
/// and the bytes given with it.
const INPUT_BEFORE: usize = 2;
const INPUT_POSITION: usize = 3;
const INPUT_AFTER: usize = 4;

pub(crate) fn output(link: &LinkMemory) -> u64 {
    link.note(OUTPUT)
}

pub(crate) fn set_output(link: &LinkMemory, first: u64) {
    link.set_note(OUTPUT, first);
}

pub(crate) fn file_base(link: &LinkMemory) -> Option<u64> {
    link.note(FILE_BASE).checked_sub(1)
}

pub(crate) fn set_file_base(link: &LinkMemory, base: u64) {
    link.set_note(FILE_BASE, base + 1);
}

/// The sending end of the input, which knows how many bytes its predecessors sent.
///
/// Before a message is published, the notes say where it will be and what the count is before and
/// after it. A successor compares that with how many messages were published, and so knows the count
/// whichever store was the last.
#[derive(Debug)]
pub(crate) struct InputLine {
    link: LinkMemory,
    sender: QueueSender,
    count: u64,
}

impl InputLine {
    pub(crate) fn open(link: &LinkMemory) -> Result<Self, Error> {
        let sender = QueueSender::input(link)?;
        let published = sender.position() > link.note(INPUT_POSITION);
        let count = link.note(if published { INPUT_AFTER } else { INPUT_BEFORE });
        Ok(Self {
            link: link.clone(),
            sender,
            count,
        })
    }

    /// Bytes given since the run began.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Gives the guest as many bytes as there is room for.
    pub(crate) fn give(&mut self, text: &[u8]) -> Result<usize, Error> {
        let mut given = 0;
        while given < text.len() && self.sender.has_room(0)? {
            let message = CharInput::bytes(self.count, &text[given..]);
            let length = message.as_bytes().len();
            let after = self.count + length as u64;
            self.link.set_note(INPUT_BEFORE, self.count);
            self.link.set_note(INPUT_POSITION, self.sender.position());
            self.link.set_note(INPUT_AFTER, after);
            if self.sender.send(message.encode(), &[])?.is_none() {
                break;
            }
            self.count = after;
            given += length;
        }
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_abi::link::{LinkGeometry, LinkKind};
    use atoll_transport::QueueReceiver;

    #[test]
    fn a_successor_knows_the_count_after_every_store() {
        let geometry = LinkGeometry {
            input_slots: 4,
            ..LinkGeometry::default_for(LinkKind::Char)
        };
        let link = LinkMemory::create("test", LinkKind::Char, &geometry, 0).unwrap();
        let mut guest = QueueReceiver::input(&link).unwrap();
        let text: Vec<u8> = (0..=255).collect();
        let mut seen = Vec::new();
        while seen.len() < text.len() {
            let mut line = InputLine::open(&link).unwrap();
            let known = line.count() as usize;
            line.give(&text[known..]).unwrap();
            // The next one dies after each of the stores that come before publishing.
            link.set_note(INPUT_BEFORE, line.count());
            if seen.len() % 3 > 0 {
                link.set_note(INPUT_POSITION, line.sender.position());
            }
            if seen.len() % 3 > 1 {
                link.set_note(INPUT_AFTER, line.count() + 7);
            }
            let mut payload = Vec::new();
            while let Some(slot) = guest.receive(&mut payload).unwrap() {
                let input = CharInput::decode(&slot).unwrap();
                let CharInput::Bytes { number, .. } = input else {
                    panic!("{input:?}")
                };
                assert_eq!(number, seen.len() as u64);
                seen.extend_from_slice(input.as_bytes());
            }
        }
        assert_eq!(seen, text);
    }
}
