namespace KernelScope.Training;

/// <summary>Training cannot go on: a threshold or a loss left its range. The message says where, and what helps.</summary>
public sealed class TrainingException : Exception
{
    /// <summary>With the sentence that says where and why.</summary>
    public TrainingException(string message) : base(message)
    {
    }

    /// <summary>Says why, and what it came from.</summary>
    public TrainingException(string message, Exception inner) : base(message, inner)
    {
    }

    /// <summary>Without a sentence.</summary>
    public TrainingException()
    {
    }
}
