//! Instructions as text, for logs: iced's decoder and its NASM formatter. Nothing here means anything to the engine.

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter};

use crate::state::mode;

/// The instruction at the beginning of `bytes`, which lie at `rip` and are executed in the mode `word`, and its length.
pub fn listing(bytes: &[u8], word: u32, rip: u64) -> (String, usize) {
    let bits = match () {
        () if word & mode::LONG != 0 => 64,
        () if word & mode::CODE32 != 0 => 32,
        () => 16,
    };
    let mut instruction = Instruction::default();
    Decoder::with_ip(bits, bytes, rip, DecoderOptions::NONE).decode_out(&mut instruction);
    let mut text = String::new();
    NasmFormatter::new().format(&instruction, &mut text);
    (text, instruction.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_decides_what_bytes_mean() {
        let bytes = [0x48, 0x89, 0xd8];
        assert_eq!(
            listing(&bytes, mode::LONG, 0),
            ("mov rax,rbx".to_owned(), 3)
        );
        assert_eq!(listing(&bytes, mode::CODE32, 0), ("dec eax".to_owned(), 1));
        assert_eq!(listing(&bytes, 0, 0), ("dec ax".to_owned(), 1));
    }
}
