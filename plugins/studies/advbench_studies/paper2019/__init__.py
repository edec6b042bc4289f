"""The paper that advbench grew from: its setting, its claims, and what results say of them.

Tan, Te and Lai 2019, Learning Adversarially Robust and Rich Image Transformations for Object Classification.
"""
