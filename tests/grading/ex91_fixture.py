# %% [markdown]
# # Exercise 91: a fixture
#
# Three checks that lean on torch, on modules and on tables, without anything that trains.

# %% locked="setup"
import torch

from kdcourse.checks import check_find_optimum, check_kd_loss, check_measured_accuracy


# %% solution="task1_kd_loss" asks="kd_loss"
def my_kd_loss(student_logits, teacher_logits, *, temperature):
    ### BEGIN SOLUTION
    log_q = torch.log_softmax(student_logits / temperature, dim=-1)
    log_p = torch.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_kd_loss is not written yet")


# %% check="task1_check" points=5
check_kd_loss(my_kd_loss)
### BEGIN HIDDEN TESTS
check_kd_loss(my_kd_loss, seed=271828)
### END HIDDEN TESTS


# %% solution="task2_accuracy" asks="accuracy count_errors"
def measured_accuracy(model, images, labels, *, batch_size):
    ### BEGIN SOLUTION
    was = model.training
    model.eval()
    right = 0
    with torch.no_grad():
        for some, truth in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            right += int((model(some).argmax(dim=1) == truth).sum())
    model.train(was)
    return right / len(labels)
    ### END SOLUTION
    raise NotImplementedError("Task 2: measured_accuracy is not written yet")


# %% check="task2_check" points=4
check_measured_accuracy(measured_accuracy)
### BEGIN HIDDEN TESTS
check_measured_accuracy(measured_accuracy, seed=271828)
### END HIDDEN TESTS


# %% solution="task3_optimum"
def find_optimum(runs):
    ### BEGIN SOLUTION
    from kdcourse.sweeps import mean_interval

    errors = runs.pivot(index="temperature", columns="seed", values="held_out_errors").sort_index()
    best = errors.mean(axis=1).idxmin()
    place = list(errors.index).index(best)
    beside = [errors.index[i] for i in (place - 1, place + 1) if 0 <= i < len(errors)]
    clear = all(mean_interval((errors.loc[t] - errors.loc[best]).tolist())[1] > 0 for t in beside)
    return float(best), bool(clear)
    ### END SOLUTION
    raise NotImplementedError("Task 3: find_optimum is not written yet")


# %% check="task3_check" points=3
check_find_optimum(find_optimum)
### BEGIN HIDDEN TESTS
check_find_optimum(find_optimum, seed=271828)
### END HIDDEN TESTS
