//! Results for a packet without a record.

/// Result for a packet without a record; a small number, because it crosses a call.
pub struct Outcome;

impl Outcome {
    pub const PASS: u32 = 0;
    /// A flow began or was taken over; its forward record is in the scratch space.
    pub const BEGUN: u32 = 1;
    pub const NO_ENDPOINT: u32 = 2;
    pub const DROP: u32 = 3;
    pub const UNKNOWN_PORT: u32 = 4;
    /// A backend is chosen; it is in the scratch space.
    pub const CHOSEN: u32 = 5;
    /// There is no record.
    pub const UNKNOWN: u32 = 6;
    /// Like `BEGUN`, with a second flow that masquerades; that flow's hook is in the scratch space.
    pub const BEGUN_FIRST: u32 = 7;
    /// A direct connection, whose source port an open translated flow has towards the same backend; that flow's forward
    /// record is in the scratch space.
    pub const DIRECT: u32 = 8;
}
