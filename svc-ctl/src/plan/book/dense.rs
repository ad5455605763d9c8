//! A map by backend id. Ids are handed out from 1 upwards, so a vector has hardly a hole and half the size of a tree.

use svc_common::abi::BackendId;

#[derive(Clone, Debug)]
pub struct Dense<T>(Vec<Option<T>>);

impl<T> Default for Dense<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Dense<T> {
    pub fn get(&self, id: BackendId) -> Option<&T> {
        self.0.get(id.0 as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, id: BackendId) -> Option<&mut T> {
        self.0.get_mut(id.0 as usize)?.as_mut()
    }

    pub fn get_or_insert(&mut self, id: BackendId, value: T) -> &mut T {
        let at = id.0 as usize;
        if at >= self.0.len() {
            // Doubled, a vector of a million would waste as much again.
            if at >= self.0.capacity() {
                self.0.reserve_exact(at + 1 - self.0.len() + at / 8);
            }
            self.0.resize_with(at + 1, || None);
        }
        self.0[at].get_or_insert(value)
    }

    pub fn remove(&mut self, id: BackendId) {
        if let Some(place) = self.0.get_mut(id.0 as usize) {
            *place = None;
        }
    }
}

impl<T> FromIterator<(BackendId, T)> for Dense<T> {
    fn from_iter<I: IntoIterator<Item = (BackendId, T)>>(entries: I) -> Self {
        let mut dense = Self::default();
        for (id, value) in entries {
            dense.get_or_insert(id, value);
        }
        dense
    }
}
