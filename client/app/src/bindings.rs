//! Which key or mouse button does what. Every action can be bound anew; a gamepad's layout is fixed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bevy::prelude::*;
use serde::{Deserialize, Serialize};

/// What a key can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Walks away from the camera.
    Forward,
    /// Walks towards the camera.
    Back,
    /// Walks to the left.
    Left,
    /// Walks to the right.
    Right,
    /// Jumps.
    Jump,
    /// Turns the camera to the left.
    TurnLeft,
    /// Turns the camera to the right.
    TurnRight,
    /// Brings the camera nearer.
    ZoomIn,
    /// Takes the camera further away.
    ZoomOut,
    /// Shows the keys.
    Help,
    /// Shows the figures of the network.
    Hud,
    /// Shows the network simulator.
    Simulator,
    /// Shows where the server has everybody.
    Ghosts,
    /// Shows the borders of zones.
    Borders,
    /// Saves a picture.
    Screenshot,
}

impl Action {
    /// All of them, in the order in which people look for them.
    pub const ALL: [Self; 15] = [
        Self::Forward,
        Self::Back,
        Self::Left,
        Self::Right,
        Self::Jump,
        Self::TurnLeft,
        Self::TurnRight,
        Self::ZoomIn,
        Self::ZoomOut,
        Self::Help,
        Self::Hud,
        Self::Simulator,
        Self::Ghosts,
        Self::Borders,
        Self::Screenshot,
    ];

    /// What it does, for people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Forward => "Walk forward",
            Self::Back => "Walk back",
            Self::Left => "Walk left",
            Self::Right => "Walk right",
            Self::Jump => "Jump",
            Self::TurnLeft => "Turn the camera left",
            Self::TurnRight => "Turn the camera right",
            Self::ZoomIn => "Camera nearer",
            Self::ZoomOut => "Camera further away",
            Self::Help => "Keys",
            Self::Hud => "Network figures",
            Self::Simulator => "Network simulator",
            Self::Ghosts => "Where the server has everybody",
            Self::Borders => "Borders of zones",
            Self::Screenshot => "Save a picture",
        }
    }

    fn usual(self) -> Binding {
        Binding::Key(match self {
            Self::Forward => KeyCode::KeyW,
            Self::Back => KeyCode::KeyS,
            Self::Left => KeyCode::KeyA,
            Self::Right => KeyCode::KeyD,
            Self::Jump => KeyCode::Space,
            Self::TurnLeft => KeyCode::KeyQ,
            Self::TurnRight => KeyCode::KeyE,
            Self::ZoomIn => KeyCode::PageUp,
            Self::ZoomOut => KeyCode::PageDown,
            Self::Help => KeyCode::F1,
            Self::Hud => KeyCode::F3,
            Self::Simulator => KeyCode::F4,
            Self::Ghosts => KeyCode::F5,
            Self::Borders => KeyCode::F6,
            Self::Screenshot => KeyCode::F12,
        })
    }
}

/// A key or a mouse button. Escape is none: it always opens the menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Binding {
    /// A key, by its place on the keyboard.
    Key(KeyCode),
    /// A mouse button.
    Mouse(MouseButton),
}

/// The keys that can be bound, by the names that people and the settings file have for them.
const KEYS: [(&str, KeyCode); 88] = {
    use KeyCode::*;
    [
        ("A", KeyA),
        ("B", KeyB),
        ("C", KeyC),
        ("D", KeyD),
        ("E", KeyE),
        ("F", KeyF),
        ("G", KeyG),
        ("H", KeyH),
        ("I", KeyI),
        ("J", KeyJ),
        ("K", KeyK),
        ("L", KeyL),
        ("M", KeyM),
        ("N", KeyN),
        ("O", KeyO),
        ("P", KeyP),
        ("Q", KeyQ),
        ("R", KeyR),
        ("S", KeyS),
        ("T", KeyT),
        ("U", KeyU),
        ("V", KeyV),
        ("W", KeyW),
        ("X", KeyX),
        ("Y", KeyY),
        ("Z", KeyZ),
        ("0", Digit0),
        ("1", Digit1),
        ("2", Digit2),
        ("3", Digit3),
        ("4", Digit4),
        ("5", Digit5),
        ("6", Digit6),
        ("7", Digit7),
        ("8", Digit8),
        ("9", Digit9),
        ("F1", F1),
        ("F2", F2),
        ("F3", F3),
        ("F4", F4),
        ("F5", F5),
        ("F6", F6),
        ("F7", F7),
        ("F8", F8),
        ("F9", F9),
        ("F10", F10),
        ("F11", F11),
        ("F12", F12),
        ("Space", Space),
        ("Enter", Enter),
        ("Tab", Tab),
        ("Backspace", Backspace),
        ("Up", ArrowUp),
        ("Down", ArrowDown),
        ("Left", ArrowLeft),
        ("Right", ArrowRight),
        ("Left Shift", ShiftLeft),
        ("Right Shift", ShiftRight),
        ("Left Ctrl", ControlLeft),
        ("Right Ctrl", ControlRight),
        ("Left Alt", AltLeft),
        ("Right Alt", AltRight),
        ("Insert", Insert),
        ("Delete", Delete),
        ("Home", Home),
        ("End", End),
        ("Page Up", PageUp),
        ("Page Down", PageDown),
        ("Minus", Minus),
        ("Equal", Equal),
        ("Comma", Comma),
        ("Period", Period),
        ("Slash", Slash),
        ("Semicolon", Semicolon),
        ("Quote", Quote),
        ("Backquote", Backquote),
        ("Left Bracket", BracketLeft),
        ("Right Bracket", BracketRight),
        ("Backslash", Backslash),
        ("Caps Lock", CapsLock),
        ("Numpad 0", Numpad0),
        ("Numpad 2", Numpad2),
        ("Numpad 4", Numpad4),
        ("Numpad 6", Numpad6),
        ("Numpad 8", Numpad8),
        ("Numpad Add", NumpadAdd),
        ("Numpad Subtract", NumpadSubtract),
        ("Numpad Enter", NumpadEnter),
    ]
};

const BUTTONS: [(&str, MouseButton); 5] = [
    ("Mouse Left", MouseButton::Left),
    ("Mouse Right", MouseButton::Right),
    ("Mouse Middle", MouseButton::Middle),
    ("Mouse Back", MouseButton::Back),
    ("Mouse Forward", MouseButton::Forward),
];

impl Binding {
    /// The binding of a key, if it can be bound.
    pub fn of_key(key: KeyCode) -> Option<Self> {
        KEYS.iter().any(|(_, known)| *known == key).then_some(Self::Key(key))
    }

    /// The binding of a mouse button, if it can be bound.
    pub fn of_button(button: MouseButton) -> Option<Self> {
        let known = BUTTONS.iter().any(|(_, known)| *known == button);
        known.then_some(Self::Mouse(button))
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Key(key) => KEYS.iter().find(|(_, known)| known == key).map(|(name, _)| name),
            Self::Mouse(button) => BUTTONS.iter().find(|(_, known)| known == button).map(|(name, _)| name),
        };
        formatter.write_str(name.unwrap_or(&"?"))
    }
}

impl FromStr for Binding {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let key = KEYS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, key)| Self::Key(*key));
        let button = || {
            BUTTONS
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, button)| Self::Mouse(*button))
        };
        key.or_else(button).ok_or_else(|| format!("{name:?} is no key"))
    }
}

impl From<Binding> for String {
    fn from(binding: Binding) -> Self {
        binding.to_string()
    }
}

impl TryFrom<String> for Binding {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

/// Which key does what. Actions that a settings file leaves out have their usual key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<Action, Binding>", into = "BTreeMap<Action, Binding>")]
pub struct Bindings(BTreeMap<Action, Binding>);

impl Default for Bindings {
    fn default() -> Self {
        Self(Action::ALL.into_iter().map(|action| (action, action.usual())).collect())
    }
}

impl From<BTreeMap<Action, Binding>> for Bindings {
    fn from(chosen: BTreeMap<Action, Binding>) -> Self {
        // One by one: a file that gives a key to two things gives it to the last.
        let mut bindings = Self::default();
        for (action, binding) in chosen {
            bindings.bind(action, binding);
        }
        bindings
    }
}

impl From<Bindings> for BTreeMap<Action, Binding> {
    fn from(bindings: Bindings) -> Self {
        bindings.0
    }
}

impl Bindings {
    /// What does an action.
    pub fn of(&self, action: Action) -> Binding {
        self.0.get(&action).copied().unwrap_or_else(|| action.usual())
    }

    /// Binds an action. The action that had the binding before gets the old one of this: no key does two things.
    pub fn bind(&mut self, action: Action, binding: Binding) {
        let old = self.of(action);
        let other = Action::ALL.into_iter().find(|other| self.of(*other) == binding);
        if let Some(other) = other {
            self.0.insert(other, old);
        }
        self.0.insert(action, binding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_what_it_names() {
        for (name, key) in KEYS {
            assert_eq!(name.parse(), Ok(Binding::Key(key)));
            assert_eq!(Binding::Key(key).to_string(), name);
        }
        for (name, button) in BUTTONS {
            assert_eq!(name.parse(), Ok(Binding::Mouse(button)));
        }
        assert!("Escape".parse::<Binding>().is_err());
    }

    #[test]
    fn no_key_does_two_things() {
        let mut bindings = Bindings::default();
        let no_two = |bindings: &Bindings| {
            Action::ALL.iter().all(|one| {
                Action::ALL
                    .iter()
                    .all(|other| one == other || bindings.of(*one) != bindings.of(*other))
            })
        };
        assert!(no_two(&bindings));
        bindings.bind(Action::Jump, Binding::Key(KeyCode::KeyW));
        assert_eq!(bindings.of(Action::Jump), Binding::Key(KeyCode::KeyW));
        assert_eq!(bindings.of(Action::Forward), Binding::Key(KeyCode::Space));
        bindings.bind(Action::Left, Binding::Mouse(MouseButton::Middle));
        bindings.bind(Action::Left, Binding::Mouse(MouseButton::Middle));
        assert!(no_two(&bindings), "{bindings:?}");
    }

    #[test]
    fn a_file_may_name_some_keys_only() {
        let bindings: Bindings = toml::from_str("jump = \"Left Shift\"\n").unwrap();
        assert_eq!(bindings.of(Action::Jump), Binding::Key(KeyCode::ShiftLeft));
        assert_eq!(bindings.of(Action::Forward), Binding::Key(KeyCode::KeyW));
        assert!(toml::from_str::<Bindings>("jump = \"Hyper\"\n").is_err());
        let twice: Bindings = toml::from_str("jump = \"Z\"\nhelp = \"Z\"\n").unwrap();
        assert_ne!(twice.of(Action::Jump), twice.of(Action::Help));
        // What is written is read as the same.
        let mut swapped = Bindings::default();
        swapped.bind(Action::Forward, Binding::Key(KeyCode::KeyS));
        let text = toml::to_string(&swapped).unwrap();
        assert_eq!(toml::from_str::<Bindings>(&text), Ok(swapped));
    }
}
