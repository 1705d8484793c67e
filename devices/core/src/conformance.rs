//! What every model is held to, whoever wrote it.
//!
//! [`check`] drives a model with random accesses, inputs, completions and time, and asserts: nothing panics; a call through
//! [`wire`](crate::wire) has the same result and effects as a direct one; a state that was saved and loaded into a fresh model
//! saves as the same bytes and behaves the same from there on; a wide access equals its pieces;
//! a damaged section is refused or loaded, and never panics.

use crate::access::Access;
use crate::manifest::{Attach, Manifest};
use crate::model::{Input, Model, Status};
use crate::request::{BlockRequest, Request};
use crate::rig::{Rig, dispatch};
use crate::rng::SplitMix64;
use crate::section::Section;
use crate::wire::Call;
use crate::{Cx, Effects};

const RAM_BYTES: usize = 64 << 10;

/// Runs `steps` random steps from `seed` on models that `make` builds, all alike.
pub fn check(make: &dyn Fn() -> Box<dyn Model>, seed: u64, steps: usize) {
    let mut rng = SplitMix64::new(seed);
    let noise: Vec<u8> = (0..RAM_BYTES).map(|_| rng.next_u64() as u8).collect();
    let mut rig = Rig::new(make())
        .with_twin(make())
        .with_backend(Box::new(backend));
    rig.ram.0 = noise;
    let regions = regions(&rig.manifest);
    rig.reset();
    for _ in 0..steps {
        Step::random(&mut rng, &regions).run(&mut rig);
        if rng.below(16) == 0 {
            reload_twin(&mut rig, make);
        }
        if rng.below(8) == 0 {
            granules(&rig, make, &mut rng, &regions);
        }
    }
    reload_twin(&mut rig, make);
    damage(&rig.model.save(), make, &mut rng);
}

/// A region of the device as the driver sees it: number, length, granule.
#[derive(Clone, Copy, Debug)]
struct Region {
    number: u16,
    len: u64,
    granule: u8,
}

fn regions(manifest: &Manifest) -> Vec<Region> {
    match &manifest.attach {
        Attach::Fixed(windows) => {
            let region = |(i, w): (usize, &crate::Window)| Region {
                number: i as u16,
                len: w.len,
                granule: w.granule,
            };
            windows.iter().enumerate().map(region).collect()
        }
        Attach::Pci(function) => {
            let region = |b: &crate::Bar| Region {
                number: u16::from(b.index),
                len: b.size,
                granule: b.granule,
            };
            function.bars.iter().map(region).collect()
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Access(Access),
    Advance(u64),
    Char(Vec<u8>),
    PowerButton,
}

impl Step {
    fn random(rng: &mut SplitMix64, regions: &[Region]) -> Step {
        match rng.below(20) {
            0 => Step::Char((0..rng.below(24)).map(|i| i as u8).collect()),
            1 => Step::PowerButton,
            // Short and long waits, up to the periods of the slowest clocks.
            2..=4 => {
                let bits = rng.below(34);
                Step::Advance(rng.next_u64() & ((1 << bits) - 1))
            }
            _ => Step::Access(random_access(rng, regions, 8)),
        }
    }

    fn run(&self, rig: &mut Rig) {
        match self {
            Step::Access(access) => drop(rig.call(Call::Access(*access))),
            Step::Advance(ns) => {
                // Many short steps, so that a fast periodic timer is not called millions of times.
                for _ in 0..64 {
                    let to_next = rig
                        .next_due()
                        .map_or(*ns, |at| at.saturating_sub(rig.now_ns));
                    rig.advance(to_next.min(*ns));
                }
            }
            Step::Char(bytes) => drop(rig.input(Input::Char(bytes))),
            Step::PowerButton => drop(rig.input(Input::PowerButton)),
        }
    }
}

fn random_access(rng: &mut SplitMix64, regions: &[Region], max_size: u8) -> Access {
    let region = regions[rng.below(regions.len() as u64) as usize];
    let size = loop {
        let size = 1 << rng.below(4);
        if size <= max_size && u64::from(size) <= region.len {
            break size;
        }
    };
    let mut offset = rng.below(region.len - u64::from(size) + 1);
    // Mostly where registers are: low in the region and aligned.
    if rng.below(4) != 0 {
        offset = offset % 0x100.min(region.len) / u64::from(size) * u64::from(size);
        offset = offset.min(region.len - u64::from(size));
    }
    let value = if rng.below(2) == 0 {
        rng.next_u64()
    } else {
        rng.below(16)
    };
    match rng.below(2) {
        0 => Access::read(region.number, offset, size),
        _ => Access::write(region.number, offset, size, value),
    }
}

/// Replaces the twin by a fresh one that loaded its state, which is the model's.
fn reload_twin(rig: &mut Rig, make: &dyn Fn() -> Box<dyn Model>) {
    let Some(twin) = &rig.twin else { return };
    let saved = twin.save();
    assert_eq!(
        saved,
        rig.model.save(),
        "the same calls make the same state"
    );
    let fresh = copy_of(&saved, make);
    assert_eq!(fresh.save(), saved, "save and load change nothing");
    rig.twin = Some(fresh);
}

fn copy_of(saved: &Section, make: &dyn Fn() -> Box<dyn Model>) -> Box<dyn Model> {
    let mut fresh = make();
    fresh.load(saved).expect("a model loads what it saved");
    fresh
}

/// A wide access and its pieces, each on a copy of the model: one result, one list of effects, one state.
fn granules(
    rig: &Rig,
    make: &dyn Fn() -> Box<dyn Model>,
    rng: &mut SplitMix64,
    regions: &[Region],
) {
    let saved = rig.model.save();
    let access = random_access(rng, regions, 8);
    let granule = regions
        .iter()
        .find(|r| r.number == access.region)
        .expect("a region of the model")
        .granule;
    let (mut joined, mut split) = (copy_of(&saved, make), copy_of(&saved, make));
    let run = |model: &mut dyn Model, access: Access, effects: &mut Effects| {
        let mut ram = rig.ram.clone();
        dispatch(
            model,
            &Call::Access(access),
            &mut Cx::new(rig.now_ns, &mut ram, effects),
        )
    };
    let (mut once, mut pieces) = (Effects::new(), Effects::new());
    let whole = run(joined.as_mut(), access, &mut once);
    let parts = access.by_granule(granule, |piece| run(split.as_mut(), piece, &mut pieces));
    if matches!(access.kind, crate::Kind::Read) {
        assert_eq!(whole, parts, "{access:?} and its pieces of {granule}");
    }
    assert!(
        once == pieces,
        "{access:?} and its pieces of {granule}: {once:?} and {pieces:?}"
    );
    assert_eq!(
        joined.save(),
        split.save(),
        "{access:?} and its pieces of {granule}"
    );
}

/// Sections cut short, or with a byte changed, are answered with an error or a state; the model then still works.
fn damage(saved: &Section, make: &dyn Fn() -> Box<dyn Model>, rng: &mut SplitMix64) {
    let mut model = make();
    let regions = regions(&model.manifest());
    let wrong = Section {
        version: saved.version.wrapping_add(1),
        ..saved.clone()
    };
    assert!(model.load(&wrong).is_err(), "another version is refused");
    let wrong = Section {
        kind: "another".into(),
        ..saved.clone()
    };
    assert!(model.load(&wrong).is_err(), "another kind is refused");
    for _ in 0..64 {
        let mut section = saved.clone();
        if section.bytes.is_empty() {
            return;
        }
        let at = rng.below(section.bytes.len() as u64) as usize;
        match rng.below(2) {
            0 => section.bytes.truncate(at),
            _ => section.bytes[at] ^= 1 << rng.below(8),
        }
        let before = model.save();
        if model.load(&section).is_err() {
            assert_eq!(model.save(), before, "a refused section changes nothing");
        }
        for _ in 0..8 {
            let access = random_access(rng, &regions, 8);
            let mut effects = Effects::new();
            dispatch(
                model.as_mut(),
                &Call::Access(access),
                &mut Cx::new(1 << 40, &mut crate::NoDma, &mut effects),
            );
        }
    }
}

/// A back end whose answers depend on the request alone, errors among them.
fn backend(request: &Request<Vec<u8>>) -> (Status, Vec<u8>) {
    match request {
        Request::Block(BlockRequest::Read { sector, len }) => match sector % 5 {
            0 => (Status::Io, Vec::new()),
            // Too short, which a model must not trust.
            1 => (Status::Ok, vec![0x5A; *len as usize / 2]),
            _ => (Status::Ok, vec![*sector as u8; *len as usize]),
        },
        Request::Block(BlockRequest::Write { sector, .. }) if sector % 5 == 0 => {
            (Status::NoSpace, Vec::new())
        }
        Request::Block(BlockRequest::Discard { .. }) => (Status::Unsupported, Vec::new()),
        _ => (Status::Ok, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LoadError, Ports, Space, Window};
    use serde::{Deserialize, Serialize};

    /// A byte-wide scratch register with a timer and a line: the smallest model that uses every kind of call.
    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    struct Scratch {
        bytes: [u8; 4],
        taken: u64,
    }

    impl Model for Scratch {
        fn manifest(&self) -> Manifest {
            let window = Window {
                space: Space::Port,
                base: 0x80,
                len: 4,
                granule: 1,
            };
            Manifest {
                kind: "scratch".into(),
                attach: Attach::Fixed(vec![window]),
                lines: 1,
                timers: 1,
                ports: Ports::default(),
            }
        }

        fn access(&mut self, access: Access, cx: &mut Cx<'_>) -> u64 {
            access.by_granule(1, |a| {
                let byte = &mut self.bytes[a.offset as usize % 4];
                if let crate::Kind::Write(value) = a.kind {
                    *byte = value as u8;
                    cx.effects.set_timer(0, cx.now_ns + value);
                }
                u64::from(*byte)
            })
        }

        fn timer(&mut self, _timer: u16, cx: &mut Cx<'_>) {
            cx.effects.line(0, cx.now_ns.is_multiple_of(2));
        }

        fn input(&mut self, input: &Input<'_>, _cx: &mut Cx<'_>) -> usize {
            let Input::Char(bytes) = input else { return 1 };
            self.taken += bytes.len() as u64;
            bytes.len()
        }

        fn reset(&mut self, _cx: &mut Cx<'_>) {
            *self = Scratch::default();
        }

        fn save(&self) -> Section {
            Section::of("scratch", 1, self)
        }

        fn load(&mut self, section: &Section) -> Result<(), LoadError> {
            *self = section.state("scratch", 1)?;
            Ok(())
        }
    }

    #[test]
    fn the_suite_passes_a_sound_model() {
        check(&|| Box::new(Scratch::default()), 1, 500);
    }

    /// The same model with one byte missing from its section.
    struct Forgetful(Scratch);

    impl Model for Forgetful {
        fn manifest(&self) -> Manifest {
            self.0.manifest()
        }
        fn access(&mut self, access: Access, cx: &mut Cx<'_>) -> u64 {
            self.0.access(access, cx)
        }
        fn reset(&mut self, cx: &mut Cx<'_>) {
            self.0.reset(cx);
        }
        fn save(&self) -> Section {
            let mut state = self.0.clone();
            state.bytes[3] = 0;
            Section::of("scratch", 1, &state)
        }
        fn load(&mut self, section: &Section) -> Result<(), LoadError> {
            self.0.load(section)
        }
    }

    #[test]
    #[should_panic(expected = "direct and through the wire")]
    fn the_suite_finds_state_that_is_not_saved() {
        check(&|| Box::new(Forgetful(Scratch::default())), 1, 500);
    }
}
