"""What an export is made from: `UserInputs` as given, `ExportInputs` opened."""

from .export_inputs import ExportInputs as ExportInputs
from .user_inputs import CALIBRATION_LIMIT as CALIBRATION_LIMIT
from .user_inputs import UserInputs as UserInputs
