//! What a CPU model has not is an illegal instruction, and what it has is none.

use atoll_x86::decode::decode;
use atoll_x86::features::Features as F;
use atoll_x86::op::Kind;
use atoll_x86::state::mode;
use atoll_x86::system::Model;
use atoll_x86::system::models::NAMES;

/// A feature, and an instruction of it in 32-bit code.
const INSTRUCTIONS: &[(F, &[u8])] = &[
    (F::CX8, &[0x0f, 0xc7, 0x08]),
    (F::CMOV, &[0x0f, 0x44, 0xc1]),
    (F::FXSR, &[0x0f, 0xae, 0x00]),
    (F::MMX, &[0x0f, 0xef, 0xc1]),
    (F::SSE, &[0x0f, 0x58, 0xc1]),
    (F::SSE2, &[0x66, 0x0f, 0x58, 0xc1]),
    (F::SSE3, &[0x66, 0x0f, 0x7c, 0xc1]),
    (F::SSE4A, &[0xf2, 0x0f, 0x79, 0xc1]),
    (F::SSE4A, &[0xf3, 0x0f, 0x2b, 0x00]),
    (F::MONITOR, &[0x0f, 0x01, 0xc8]),
    (F::CLZERO, &[0x0f, 0x01, 0xfc]),
    (F::CLFLUSH, &[0x0f, 0xae, 0x38]),
    (F::CLFLUSHOPT, &[0x66, 0x0f, 0xae, 0x38]),
    (F::XSAVE, &[0x0f, 0xae, 0x20]),
    (F::XSAVEOPT, &[0x0f, 0xae, 0x30]),
    (F::XSAVEC, &[0x0f, 0xc7, 0x20]),
    (F::RDPID, &[0xf3, 0x0f, 0xc7, 0xf8]),
    (F::MOVBE, &[0x0f, 0x38, 0xf0, 0x00]),
    (F::SHA, &[0x0f, 0x38, 0xc8, 0xc1]),
];

#[test]
fn a_model_decodes_what_it_has() {
    for name in NAMES {
        let features = Model::named(name).expect("a model of that name").features;
        for (feature, bytes) in INSTRUCTIONS {
            let mut code = [0x90; 15];
            code[..bytes.len()].copy_from_slice(bytes);
            let mode = mode::CODE32 | mode::STACK32 | mode::FLAT | mode::PROTECTED;
            let op = decode(&code, mode, features).expect("15 bytes hold it");
            let has = features.contains(*feature);
            assert_eq!(op.kind != Kind::Invalid, has, "{name} {feature:?}");
        }
    }
}
