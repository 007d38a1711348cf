-- Keys of a layer's splits are written by what they do not have in common with one that is written whole.
UPDATE kinds SET detail = '{"key": its digest, "base": the number of the event with a whole key that it is mostly the same as, where it is, "parts": [[name, value] or how many are as in "base" at the same places, ...]}' WHERE kind = 15;
UPDATE kinds SET detail = '{"key", "base", "parts", "execution", "layer", "split": whose artifacts they are; the layer is one of that execution, "artifacts"}' WHERE kind = 16;
