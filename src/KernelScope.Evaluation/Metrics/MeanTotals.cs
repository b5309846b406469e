namespace KernelScope.Evaluation;

/// <summary>Names of the sums from which every mean and every ratio of an SAE is made. A sequence has one row of them; the set's are the sum of the rows.</summary>
internal static class Total
{
    public const int Masks = 4;

    public const int Counted = 0;
    public const int NotPad = 1;
    public const int Positions = 2;
    public const int LossPositions = 3;
    public const int CountedLosses = 4; // by mask
    public const int ActiveFeatures = 8;
    public const int ActiveFeaturesNotPad = 9;
    public const int Error = 10;
    public const int ErrorNotPad = 11;
    public const int Deviation = 12;
    public const int DeviationNotPad = 13;
    public const int Cosine = 14;
    public const int CleanLoss = 15; // by mask, then over every position
    // each: loss by mask, then over every position; KL over counted positions, over the default mask, over every position
    public const int Runs = 20;

    public const int RunSize = Masks + 1 + 3;
    public const int RunLossEvery = Masks;
    public const int RunKl = Masks + 1;
    public const int RunKlDefault = Masks + 2;
    public const int RunKlEvery = Masks + 3;

    public const int SaelensSize = 9;
    public const int NormIn = 0;
    public const int NormOut = 1;
    public const int NormRatio = 2;
    public const int SquaredNormOut = 3;
    public const int Dot = 4;
    public const int L1 = 5;
    public const int LegacyExplained = 6;
    public const int SaelensError = 7;
    public const int SaelensDeviation = 8;

    /// <summary>SAELens' sums over counted positions, then over every position.</summary>
    public static readonly int Saelens = Runs + (SpliceRun.Every.Length * RunSize);

    public static readonly int CosineEvery = Saelens + (2 * SaelensSize);
    public static readonly int ActiveFeaturesEvery = CosineEvery + 1;

    /// <summary>Sum of r_L0, the number of positions that have one; the same of r_L0_summed.</summary>
    public static readonly int Uniformity = ActiveFeaturesEvery + 1;

    public static readonly int Size = Uniformity + 4;

    /// <summary>Where the sums of a run begin.</summary>
    public static int OfRun(int run) => Runs + (run * RunSize);
}
