"""Why a gradient is wrong, and where the error starts; nothing here changes a verdict."""
