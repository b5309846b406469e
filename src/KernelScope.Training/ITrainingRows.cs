namespace KernelScope.Training;

/// <summary>Activations in the order in which a trainer sees them: rows x [d_in] and, for a transcoder, the rows y [d_out] of the same
/// tokens.</summary>
/// <remarks>
/// Rows are raw: as the model made them, not divided by any scalar. The order is decided by the source and its seed alone; after <see
/// cref="LoadState"/> the same rows follow as followed <see cref="SaveState"/>.
/// For one caller at a time.
/// </remarks>
public interface ITrainingRows : IDisposable
{
    /// <summary>What the rows are, for checkpoints and exports: a run's id, or the hash of a file. Training is not continued on rows of
    /// another identity.</summary>
    string Identity { get; }

    /// <summary>d_in.</summary>
    int Width { get; }

    /// <summary>d_out of a transcoder; null where a row is its own target.</summary>
    int? TargetWidth { get; }

    /// <summary>Rows that one pass over the data serves.</summary>
    long EpochRows { get; }

    /// <summary>Rows served since the beginning.</summary>
    long Position { get; }

    /// <summary>Mean of ‖x‖² over the training rows.</summary>
    double MeanSquaredNorm { get; }

    /// <summary>Rows that are never served to training.</summary>
    long ValidationRows { get; }

    /// <summary>The next rows.</summary>
    /// <param name="inputs">[rows, d_in], filled whole.</param>
    /// <param name="targets">[rows, d_out] of a transcoder; else empty.</param>
    /// <exception cref="InvalidDataException">What is stored is damaged, or holds a value that is not finite.</exception>
    void Next(Span<float> inputs, Span<float> targets);

    /// <summary>Rows that are never served to training, in their stored order.</summary>
    /// <param name="firstRow">The first, of <see cref="ValidationRows"/>.</param>
    /// <param name="inputs">[rows, d_in], filled whole.</param>
    /// <param name="targets">[rows, d_out] of a transcoder; else empty.</param>
    void ReadValidation(long firstRow, Span<float> inputs, Span<float> targets);

    /// <summary>Writes what <see cref="LoadState"/> needs: the place in the order, and generators.</summary>
    void SaveState(Stream destination);

    /// <summary>Goes to the place where <see cref="SaveState"/> was called.</summary>
    /// <exception cref="InvalidDataException">The state belongs to other rows, or is damaged.</exception>
    void LoadState(Stream source);
}
