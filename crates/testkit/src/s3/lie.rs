//! Lies of a store.

use crate::content::Random;
use crate::faulty::{Call, Script, fnv};

/// A lie of a store. One that means nothing for a request is the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Status 200 with no body and no header of its own; nothing was done.
    SaysNothing,
    /// It was done; status 200 with no body and no header of its own.
    DoesAndSaysNothing,
    /// Nothing was done, and the answer is that of something done.
    Forgets,
    /// What is put together lacks its last part; what is written, or a body of an answer, its second half.
    Cuts,
    /// A bit of what is written, or of a body of an answer, is flipped.
    Flips,
    /// An object has another size than it has.
    OtherSize,
    /// A range is said to lie behind the end of its object.
    OutOfRange,
    /// Status 200 with an error for a body; nothing was done.
    ErrorInside,
    /// Status 200 with a page for people.
    PageForPeople,
    /// A page of a listing says that another one follows, and not which.
    NoToken,
    /// A page of a listing comes again in the place of the next.
    RepeatsPage,
    /// The next page of a listing is the page that was asked for.
    RepeatsToken,
    /// The keys of a page come in another order.
    Disorder,
    /// A key is listed that was not asked for.
    Stranger,
    /// A page does not say whether it is the last.
    NoEnd,
}

/// Which lie meets which request.
pub type Lies = Script<Lie>;

impl Script<Lie> {
    /// One lie for every request of a kind whose path ends like this.
    pub fn always(call: Call, ending: &'static str, lie: Lie) -> Self {
        Self::of(format!("{call:?} {ending}: {lie:?}"), move |asked| {
            (asked.call == call && asked.path.ends_with(ending)).then_some(lie)
        })
    }

    /// Random lies from a seed.
    pub fn seeded(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let percent = [3, 8, 20][random.below(3) as usize];
        Self::of(format!("seed {seed}: {percent} % of requests"), move |asked| {
            let mut random = Random::new(seed ^ fnv(&asked.identity).rotate_left(asked.attempt % 64));
            (random.below(100) < percent).then(|| Self::any(asked.call, &mut random))
        })
    }

    fn any(call: Call, random: &mut Random) -> Lie {
        use Lie::*;

        let choice: &[Lie] = match call {
            Call::Put => &[SaysNothing, DoesAndSaysNothing, Forgets, Cuts, Flips, ErrorInside, PageForPeople],
            Call::PutPart => &[SaysNothing, Forgets, Cuts, Flips, ErrorInside],
            Call::Begin | Call::Abort => &[SaysNothing, Forgets, ErrorInside, PageForPeople],
            Call::Complete => &[SaysNothing, DoesAndSaysNothing, Forgets, Cuts, Flips, ErrorInside, PageForPeople],
            Call::Get => &[SaysNothing, Cuts, Flips, OutOfRange],
            Call::Head => &[SaysNothing, OtherSize],
            Call::List => &[
                SaysNothing,
                ErrorInside,
                PageForPeople,
                NoToken,
                RepeatsPage,
                RepeatsToken,
                Disorder,
                Stranger,
                NoEnd,
            ],
            Call::Delete => &[SaysNothing, DoesAndSaysNothing, Forgets, ErrorInside, PageForPeople],
            Call::Other => &[SaysNothing, ErrorInside, PageForPeople],
        };
        choice[random.below(choice.len() as u64) as usize]
    }
}
