"""What can go wrong for reasons a user can mend. Each message says what came and what was wanted."""


class AttentDifferNetError(ValueError):
    """Base of all errors whose message is meant for the user as it stands."""


class ImageError(AttentDifferNetError):
    """A file that is no image, is damaged, or lies outside the limits."""


class DatasetError(AttentDifferNetError):
    """A folder that is not in the MVTec AD layout, or holds too little to work with."""


class WeightsError(AttentDifferNetError):
    """Backbone weights that are missing, of another shape, or not the ones a checkpoint was made with."""


class CheckpointError(AttentDifferNetError):
    """A model folder that is incomplete, damaged, or of another version."""


class ResultsError(AttentDifferNetError):
    """A results file with missing columns, unknown labels or values that are no numbers."""
