//! Heartbeats that another node answers or does not, into up or down. Pure; beats are its clock, so a daemon that was itself
//! held up takes nobody out.

/// Beats without an answer after which a node is down: with four a second, two seconds. A node whose daemon does not run answers
/// by its kernel, which says so once a second.
pub const MISSES: u32 = 8;
/// Answers in a row after which it is up again.
const RETURNS: u32 = 4;

/// The state of another node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pulse {
    state: State,
    missed: u32,
    answered: u32,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// It has never answered: perhaps nothing there does. Its Pods stay.
    #[default]
    Unheard,
    /// Likewise, and it was asked often enough to say so.
    Silent,
    Up,
    Down,
}

impl Pulse {
    pub const fn state(self) -> State {
        self.state
    }

    /// Another heartbeat goes out.
    pub fn beat(&mut self) {
        self.missed = self.missed.saturating_add(1);
        if self.missed > MISSES {
            self.answered = 0;
            self.state = match self.state {
                State::Unheard | State::Silent => State::Silent,
                State::Up | State::Down => State::Down,
            };
        }
    }

    pub fn answer(&mut self) {
        self.missed = 0;
        self.answered = self.answered.saturating_add(1);
        if self.state != State::Down || self.answered >= RETURNS {
            self.state = State::Up;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beats `.` and answers `!`, with how many of each, into the state at the end.
    fn state(steps: &[(char, u32)]) -> State {
        let mut pulse = Pulse::default();
        for (step, count) in steps {
            for _ in 0..*count {
                if *step == '.' { pulse.beat() } else { pulse.answer() }
            }
        }
        pulse.state()
    }

    #[test]
    fn a_node_is_down_after_silence_and_up_after_answers_in_a_row() {
        for (steps, expected) in [
            (&[][..], State::Unheard),
            (&[('.', 8)], State::Unheard),
            (&[('.', 9)], State::Silent),
            (&[('.', 100), ('!', 1)], State::Up),
            (&[('!', 1), ('.', 8)], State::Up),
            (&[('!', 1), ('.', 9)], State::Down),
            (&[('!', 1), ('.', 4), ('!', 1), ('.', 8)], State::Up),
            (&[('!', 1), ('.', 9), ('!', 3)], State::Down),
            (&[('!', 1), ('.', 9), ('!', 3), ('.', 9), ('!', 1)], State::Down),
            (&[('!', 1), ('.', 9), ('!', 2), ('.', 4), ('!', 2)], State::Up),
        ] {
            assert_eq!(state(steps), expected, "{steps:?}");
        }
    }
}
