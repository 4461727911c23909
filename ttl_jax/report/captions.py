"""Captions that tell how to read each figure of a page."""

_READ = "How to read it: "

SCORES = (
    f"{_READ}a dot is the score, the bar its 95% interval, a grey stroke what a ranking by chance reaches. "
    "Further right is better."
)
BESIDE = f"{_READ}a setting a line; further right is better."
COST = f"{_READ}a dot is a setting; further up is better, further left is faster."
LEARNING_ALL = (
    f"{_READ}a line is a run, a colour a setting. A line that still rises at its end would gain from more "
    "epochs; one that falls has begun to learn its training images by heart."
)
LEARNING = (
    f"{_READ}both losses should fall; where that on validation rises while that of training falls, the "
    "network learns its training images by heart. The training loss is averaged over stretches of steps."
)
HISTOGRAMS = (
    f"{_READ}where the two outlines part, the images here are unlike those of validation. Calibrated "
    "probabilities, each data set as shares of its images."
)
RANKING = f"{_READ}the closer to the upper left (ROC) or the upper right (precision), the better."
CONFUSION = (
    f"{_READ}a row is a true class, a column a decision; the diagonal is right. Depth of colour is the share "
    "of the row."
)
NET_BENEFIT = (
    f"{_READ}at the probability from which you would act, the highest line is the best rule. Net benefit: "
    "true positives a patient less false positives weighed by the odds of that probability; beside acting on "
    "everybody or nobody."
)
RELIABILITY = (
    f"{_READ}on the diagonal the model is as often right as it says; above it, it is too modest, below too "
    "sure. 15 bins of equal width."
)
DIFFERENCES = (
    f"{_READ}right of the line is more than {{reference}}; the bar is the 95% interval. Blue: surely "
    "different (p < 0.05 after Holm's correction). Grey: open."
)
RANKS = f"{_READ}further left is better; strategies under one bar do not differ surely."
SEARCH = (
    f"{_READ}a dot is a training, validated; its bar the 95% interval over patients, which two units share: "
    "where bars overlap the units may be alike. Hollow dots were stopped early. The line is what an image "
    "costs. The marked unit was chosen by the model of the search, not by the highest dot alone."
)
