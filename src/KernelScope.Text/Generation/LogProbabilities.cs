using KernelScope.Devices;

namespace KernelScope.Generation;

/// <summary>
/// Natural logarithms of next-token probabilities: ln p_i = l_i − ln Σ_j exp(l_j) over a row of logits, in double. By the model's own distribution, before bias, penalties and temperature, as OpenAI's and vLLM's log-probabilities.
/// For one caller at a time.
/// </summary>
public sealed class LogProbabilities
{
    private readonly Device _device;
    private readonly float[] _logits;
    private double _logSum;

    /// <summary>Room for rows of <paramref name="vocabSize"/> logits.</summary>
    public LogProbabilities(Device device, int vocabSize)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(vocabSize);
        _device = device;
        _logits = new float[vocabSize];
    }

    /// <summary>Takes a row of logits, [1, vocabulary].</summary>
    public void Read(Mat logits)
    {
        _device.Read(logits, _logits);
        double max = double.NegativeInfinity, sum = 0;
        foreach (float logit in _logits)
            max = Math.Max(max, logit);
        foreach (float logit in _logits)
            sum += Math.Exp(logit - max);
        _logSum = max + Math.Log(sum);
    }

    /// <summary>ln p of a token.</summary>
    /// <exception cref="IndexOutOfRangeException">An id outside the vocabulary.</exception>
    public double Of(int id) => _logits[id] - _logSum;

    /// <summary>The <paramref name="count"/> likeliest tokens, likeliest first, the lower id first among equals.</summary>
    public IReadOnlyList<TokenLogProb> Top(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        // The weakest of those kept comes out first; among equals the highest id.
        var kept = new PriorityQueue<int, (float Logit, int MinusId)>(count + 1);
        for (int id = 0; id < _logits.Length; id++)
        {
            if (kept.Count < count)
                kept.Enqueue(id, (_logits[id], -id));
            else if (count > 0)
                kept.EnqueueDequeue(id, (_logits[id], -id));
        }

        var top = new TokenLogProb[kept.Count];
        for (int i = top.Length - 1; i >= 0; i--)
        {
            int id = kept.Dequeue();
            top[i] = new TokenLogProb(id, Of(id));
        }

        return top;
    }
}
