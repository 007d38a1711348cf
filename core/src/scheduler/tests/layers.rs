//! Layers that are fanned out, skipped, sized, cached, or may not run all at once.

use super::*;
