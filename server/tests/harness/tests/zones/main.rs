//! Borders, in virtual time: who walks, jumps, falls, is pushed, dies or disconnects across one has one owner at any time.

mod borders;
mod desk;
mod faults;
mod lost;
mod support;
