"""Gates: thresholds that a report must meet, judged on what it says was measured."""
