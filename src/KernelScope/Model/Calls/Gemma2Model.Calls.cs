using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Model;

/// <content>How calls begin: sessions are checked and taken, calls of several sessions and of some of the layers, and the losses of a call.</content>
public sealed partial class Gemma2Model
{
    /// <summary>
    /// Feeds tokens to several sessions in one call: their rows go through the products as rows of one matrix, so that weights are read once for all of them.
    /// Afterwards each session has its own <see cref="Session.Logits"/> and <see cref="Session.FinalNorm"/>, valid until its own next call.
    /// </summary>
    /// <param name="batch">Each session at most once, each with at least one token. Hooks of a session see its rows only.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    /// <remarks>
    /// A call that fails leaves every session where it was. An empty batch does nothing.
    /// <para>
    /// In <see cref="Precision.Exact"/> a sequence gets the same bits whoever shares its call, and in chunks of any size, on <c>reference</c>, <c>emulated</c> and <c>cpu</c>.
    /// Of bfloat16 weights that are packed this holds for calls with up to 16 rows; with more, results differ to float32 noise.
    /// </para>
    /// </remarks>
    /// <exception cref="ArgumentException">As <see cref="Forward(ReadOnlySpan{int}, Session, LogitRows, CancellationToken)"/>, or a session twice; the message says which of the batch.</exception>
    /// <exception cref="InvalidOperationException">A session is in use by another call, or only a part of the layers ran on some of its tokens.</exception>
    /// <exception cref="ObjectDisposedException">A session or the model was disposed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public void Forward(ReadOnlySpan<SessionTokens> batch, CancellationToken cancellationToken = default)
    {
        int rows = CheckBatch(batch);
        if (rows == 0)
            return;
        _weights.ThrowIfDisposed();
        using ForwardCall call = _calls.Rent(rows);
        for (int n = 0; n < batch.Length; n++)
            Enter(batch, n, call);
        Run(call, cancellationToken);
    }

    /// <summary>As <see cref="Forward(ReadOnlySpan{int}, Session, LogitRows, CancellationToken)"/>, through the first <paramref name="layerCount"/> layers only, for those who listen there: without the final norm, unless all layers run, and without logits.</summary>
    /// <param name="layerCount">Number of layers that run; with 0 only the hooks at <c>embed</c> and <c>resid_pre.0</c> fire.</param>
    /// <param name="tokens">Ids.</param>
    /// <param name="session">The caches of the layers above are neither read nor written, so after fewer than all layers the session takes no whole
    /// call until <see cref="Session.Reset"/>, or until <see cref="Session.Rewind"/> to before these tokens.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    /// <exception cref="ArgumentOutOfRangeException">The model has not so many layers.</exception>
    /// <exception cref="ArgumentException">As <see cref="Forward(ReadOnlySpan{int}, Session, LogitRows, CancellationToken)"/>.</exception>
    /// <exception cref="InvalidOperationException">The session is in use by another call; or all layers are asked for, and only a part of them ran on
    /// some of its tokens.</exception>
    /// <exception cref="ObjectDisposedException">The session or the model was disposed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public void ForwardTo(int layerCount, ReadOnlySpan<int> tokens, Session session, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(layerCount);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(layerCount, Config.LayerCount);
        using ForwardCall call = Begin(tokens, session, LogitRows.None, whole: layerCount == Config.LayerCount);
        if (layerCount == Config.LayerCount)
        {
            Run(call, cancellationToken);
            return;
        }

        Embed(call);
        Layers(0, layerCount, call, cancellationToken);
        session.MarkPartial(session.Position);
        session.Advance(call.Tokens, default, default);
        call.IsDone = true;
    }

    /// <summary>
    /// As <see cref="Forward(ReadOnlySpan{int}, Session, LogitRows, CancellationToken)"/>, from the residual stream before a layer on: what differs from a run only above that layer need not repeat what lies below.
    /// </summary>
    /// <param name="layer">The first layer that runs; with the number of layers none does, and <c>resid_post</c> of the last fires.</param>
    /// <param name="resid">The stream before it (<c>resid_pre</c>), or after the last layer, [n, d_model].</param>
    /// <param name="tokens">The tokens of the rows, for hooks that choose rows by token.</param>
    /// <param name="session">The caches of the layers below are neither read nor written, so after fewer than all layers the session takes no whole
    /// call until <see cref="Session.Reset"/>, or until <see cref="Session.Rewind"/> to before these tokens.</param>
    /// <param name="rows">Rows whose logits are computed.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    /// <returns>The logits of the rows asked for.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The model has no such layer.</exception>
    /// <exception cref="ArgumentException">As <see cref="Forward(ReadOnlySpan{int}, Session, LogitRows, CancellationToken)"/>, or a stream of another
    /// shape.</exception>
    /// <exception cref="InvalidOperationException">The session is in use by another call; or layer 0 is the first, and only a part of the layers ran
    /// on some of its tokens.</exception>
    /// <exception cref="ObjectDisposedException">The session or the model was disposed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public Mat ForwardFrom(
        int layer,
        Mat resid,
        ReadOnlySpan<int> tokens,
        Session session,
        LogitRows rows = LogitRows.Last,
        CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(layer);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(layer, Config.LayerCount);
        using ForwardCall call = Begin(tokens, session, rows, whole: layer == 0);
        Activations a = call.Activations;
        Device.Copy(resid, a.Resid);
        if (layer < Config.LayerCount)
        {
            Layers(layer, Config.LayerCount, call, cancellationToken);
        }
        else
        {
            call.Fire(Site.ResidPost, layer - 1, a.Resid);
            Device.RmsNorm(a.Resid, _weights.FinalNorm, Config.NormEpsilon, a.Normed);
        }

        int start = session.Position;
        Finish(call);
        if (layer > 0)
            session.MarkPartial(start);
        return session.Logits;
    }

    /// <summary>
    /// Next-token losses of the rows of the last call, in nats: loss[t] = −log p(targets[t]), without storing logits unless a hook made them.
    /// </summary>
    /// <param name="targets">The tokens that follow the first rows of the last call; one fewer than its rows where the next token is not known.</param>
    /// <param name="session">The session that made the call.</param>
    /// <param name="losses">One loss a target.</param>
    /// <exception cref="ArgumentException">More targets than the last call had rows or than there is room for losses, a target outside the vocabulary, or a session of another model.</exception>
    /// <exception cref="InvalidOperationException">A call of the session is under way.</exception>
    /// <exception cref="ObjectDisposedException">The session or the model was disposed.</exception>
    public void NextTokenLoss(ReadOnlySpan<int> targets, Session session, Span<double> losses)
    {
        ArgumentNullException.ThrowIfNull(session);
        if (!ReferenceEquals(session.Model, this))
            throw new ArgumentException("The session belongs to another model.", nameof(session));
        if (losses.Length < targets.Length)
            throw new ArgumentException($"There are {targets.Length} targets; there is room for {losses.Length} losses.", nameof(losses));
        int bad = targets.IndexOfAnyExceptInRange(0, Config.VocabSize - 1);
        if (bad >= 0)
            throw new ArgumentOutOfRangeException(
                nameof(targets), $"Target {bad} is id {targets[bad]}; the vocabulary has ids 0 to {Config.VocabSize - 1}.");
        session.EnterToRead();
        try
        {
            if (targets.Length > session.FinalNorm.Rows)
                throw new ArgumentException(
                    $"There are {targets.Length} targets; the last call had {session.FinalNorm.Rows} rows.", nameof(targets));
            if (targets.IsEmpty)
                return;
            using ForwardCall call = _calls.Rent(targets.Length);
            if (session.Hooks.Listens(Site.Logits))
                LossOfLogits(session.Logits, targets, call.Buffers, losses);
            else
                LossOfProduct(session.FinalNorm, targets, call.Buffers, losses);
        }
        finally
        {
            session.Leave();
        }
    }

    /// <summary>Checks what needs no session's turn; gives the number of rows.</summary>
    private int CheckBatch(ReadOnlySpan<SessionTokens> batch)
    {
        int rows = 0;
        for (int n = 0; n < batch.Length; n++)
        {
            Session session = batch[n].Session ?? throw new ArgumentException($"Entry {n} of the batch has no session.", nameof(batch));
            for (int m = 0; m < n; m++)
            {
                if (ReferenceEquals(session, batch[m].Session))
                    throw new ArgumentException(
                        $"Entries {m} and {n} of the batch are one session; a call takes each once.", nameof(batch));
            }

            if (session.Complaint(this, batch[n].Tokens.Length) is { } complaint)
                throw new ArgumentException($"Entry {n} of the batch: {complaint}", nameof(batch));
            rows = checked(rows + batch[n].Tokens.Length);
        }

        return rows;
    }

    /// <summary>Takes a session of a batch for a call.</summary>
    private void Enter(ReadOnlySpan<SessionTokens> batch, int n, ForwardCall call)
    {
        Session session = batch[n].Session;
        bool entered = false;
        try
        {
            session.Enter(held: false);
            entered = true;
            session.RequireWhole();
        }
        catch (InvalidOperationException e) when (e is not ObjectDisposedException)
        {
            if (entered)
                session.Leave();
            throw new InvalidOperationException($"Entry {n} of the batch: {e.Message}", e);
        }

        try
        {
            if (session.Complaint(this, batch[n].Tokens.Length) is { } complaint)
                throw new ArgumentException($"Entry {n} of the batch: {complaint}", nameof(batch));
            call.Add(session, batch[n].Tokens.Span, batch[n].Logits);
        }
        catch
        {
            session.Leave();
            throw;
        }
    }

    /// <summary>Takes a session for a call of its own, which lets it go.</summary>
    private ForwardCall Begin(ReadOnlySpan<int> tokens, Session session, LogitRows logits, bool whole, bool held = false)
    {
        ArgumentNullException.ThrowIfNull(session);
        _weights.ThrowIfDisposed();
        session.Enter(held);
        ForwardCall? call = null;
        try
        {
            if (session.Complaint(this, tokens.Length) is { } complaint)
                throw new ArgumentException(complaint);
            if (whole)
                session.RequireWhole();
            call = _calls.Rent(tokens.Length);
            call.Add(session, tokens, logits);
            return call;
        }
        catch
        {
            call?.Dispose();
            session.Leave();
            throw;
        }
    }

    private void LossOfProduct(Mat normed, ReadOnlySpan<int> targets, ActivationBuffers buffers, Span<double> losses)
    {
        Mat loss = buffers.Losses(targets.Length);
        Span<float> host = buffers.Host(targets.Length);
        Device.CrossEntropy(normed.RowRange(0, targets.Length), _weights.Head, Config.FinalSoftcap, targets, loss);
        Device.Read(loss, host);
        for (int t = 0; t < host.Length; t++)
            losses[t] = host[t];
    }

    /// <summary>The same losses from logits that a hook has seen and may have edited.</summary>
    private void LossOfLogits(Mat logits, ReadOnlySpan<int> targets, ActivationBuffers buffers, Span<double> losses)
    {
        Span<float> row = buffers.Host(logits.Columns);
        for (int t = 0; t < targets.Length; t++)
        {
            Device.Read(logits.RowRange(t, 1), row);
            double max = double.NegativeInfinity, sum = 0;
            foreach (float logit in row)
                max = Math.Max(max, logit);
            foreach (float logit in row)
                sum += Math.Exp(logit - max);
            losses[t] = max + Math.Log(sum) - row[targets[t]];
        }
    }
}
